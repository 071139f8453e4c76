//! Deletes what killed servers had begun to write to a directory.
//!
//! The object store writes an object to a file beside it, `NAME#1` or the next number that is free, and renames that.
//! Nothing lists such files, and no object has a `#` in its name: the object store writes it as `%23`.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How long such a file is left alone. A write takes a minute; one that hangs with its mount fails later, and is retried.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// Deletes old files of this kind below a directory, and returns how many. Other servers may do the same.
///
/// # Errors
/// The directory cannot be read.
pub(crate) fn delete_below(dir: &Path, now: SystemTime) -> io::Result<usize> {
    let mut deleted = 0;
    let mut dirs: Vec<PathBuf> = vec![dir.to_owned()];
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
            } else if kind.is_file() && is_staged(&entry.file_name()) {
                deleted += usize::from(delete_if_old(&entry.path(), now)?);
            }
        }
    }
    Ok(deleted)
}

/// Whether a file has a name that the object store gives to what it has not written completely.
fn is_staged(name: &OsStr) -> bool {
    let parts = name.to_str().and_then(|name| name.split_once('#'));
    parts.is_some_and(|(name, number)| {
        !name.is_empty() && !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    })
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
        assert_eq!(delete_below(folder.path(), hours(23)).unwrap(), 0);
        assert_eq!(delete_below(folder.path(), hours(25)).unwrap(), 3);
        assert_eq!(std::fs::read_dir(&log).unwrap().count(), others.len() + 1);
        assert_eq!(delete_below(&folder.path().join("absent"), now).unwrap(), 0);
    }
}
