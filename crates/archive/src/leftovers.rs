//! Deletes what killed servers had begun to write to a directory.
//!
//! The object store writes an object to a file beside it, `NAME#1` or the next number that is free, and renames that.
//! Nothing lists such files, and no object has a `#` in its name: the object store writes it as `%23`.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How long such a file is left alone. A write takes a minute; one that hangs with its mount fails later, and is retried.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// Deletes old files of this kind below a directory, and returns how many. Other servers may do the same. The directory may
/// also have files of others: `is_ours` tells whether an object has a path, relative to the directory, that we give.
///
/// # Errors
/// The directory cannot be read.
pub(crate) fn delete_below(root: &Path, now: SystemTime, is_ours: impl Fn(&str) -> bool) -> io::Result<usize> {
    let mut deleted = 0;
    let mut dirs: Vec<PathBuf> = vec![root.to_owned()];
    while let Some(dir) = dirs.pop() {
        let entries = match std::fs::read_dir(&dir) {
            // Logs that are too old are deleted with their directories.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                dirs.push(entry.path());
            } else if kind.is_file() {
                let path = entry.path();
                let relative = path.strip_prefix(root).ok().and_then(Path::to_str);
                if relative.and_then(staged_object).is_some_and(&is_ours) {
                    deleted += usize::from(delete_if_old(&path, now)?);
                }
            }
        }
    }
    Ok(deleted)
}

/// The object that was being written to this file, if it has a name that the object store gives to such files.
fn staged_object(file: &str) -> Option<&str> {
    let (object, number) = file.split_once('#')?;
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    (is_number && !object.is_empty() && !object.ends_with('/')).then_some(object)
}

/// Deletes a file if it is old. It may be gone, too: its server has just completed it.
fn delete_if_old(path: &Path, now: SystemTime) -> io::Result<bool> {
    let deleted = path.symlink_metadata().and_then(|file| {
        let age = now.duration_since(file.modified()?).unwrap_or_default();
        if age < KEPT {
            return Ok(false);
        }
        std::fs::remove_file(path).map(|()| true)
    });
    match deleted {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        deleted => deleted,
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::delete_below;

    #[test]
    fn only_old_files_that_were_never_completed_are_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("2026-11-27/task/0000/pod");
        std::fs::create_dir_all(&log).unwrap();
        std::fs::create_dir(log.join("directory#1")).unwrap();
        let others = ["00000000", "end", "00000001#", "#1", "00000001#x", "00000001#1#2"];
        for name in others.iter().chain(&["00000001#1", "00000001#23", "end#1"]) {
            std::fs::write(log.join(name), "half").unwrap();
        }
        let now = SystemTime::now();
        let hours = |hours: u64| now + Duration::from_secs(hours * 3600);
        let is_ours = |object: &str| object.starts_with("2026-11-27/task/0000/pod/");
        std::fs::write(folder.path().join("report#1"), "precious").unwrap();
        assert_eq!(delete_below(folder.path(), hours(23), is_ours).unwrap(), 0);
        assert_eq!(delete_below(folder.path(), hours(25), is_ours).unwrap(), 3);
        assert!(folder.path().join("report#1").exists());
        assert_eq!(std::fs::read_dir(&log).unwrap().count(), others.len() + 1);
        assert_eq!(delete_below(&folder.path().join("absent"), now, is_ours).unwrap(), 0);
    }
}
