//! The directory of a store that lives as long as its process, and those of processes that were killed.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

const PREFIX: &str = "k8s-cli-files-";

/// The file that a process has locked as long as it uses its directory.
const LOCK: &str = "lock";

/// The age of a directory without a lock that nobody uses: one that is being made has none either.
const ABANDONED_AFTER: Duration = Duration::from_hours(24);

/// A directory that is deleted at the end.
#[derive(Debug)]
pub(super) struct Temporary {
    directory: TempDir,
    _lock: File,
}

impl Temporary {
    /// Makes a directory, and deletes those of processes of this account that were killed, on another thread: they may be
    /// large.
    pub(super) fn make() -> io::Result<Self> {
        let parent = std::env::temp_dir();
        let made = Self::make_in(&parent)?;
        std::thread::spawn(move || delete_abandoned(&parent));
        Ok(made)
    }

    fn make_in(parent: &Path) -> io::Result<Self> {
        let mut builder = tempfile::Builder::new();
        // The files of users are nobody else's business.
        builder.prefix(PREFIX).permissions(Permissions::from_mode(0o700));
        let directory = builder.tempdir_in(parent)?;
        let new = directory.path().join("lock.new");
        let lock = File::create_new(&new)?;
        lock.try_lock()?;
        // Under its name it is locked.
        fs::rename(new, directory.path().join(LOCK))?;
        Ok(Self { directory, _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }
}

/// Deletes the directories that no process uses. What cannot be deleted stays.
fn delete_abandoned(parent: &Path) {
    let Ok(items) = fs::read_dir(parent) else {
        return;
    };
    let is_ours = |name: &std::ffi::OsStr| name.as_encoded_bytes().starts_with(PREFIX.as_bytes());
    for item in items.filter_map(Result::ok).filter(|item| is_ours(&item.file_name())) {
        let path = item.path();
        if is_abandoned(&path).unwrap_or(false)
            && let Err(error) = fs::remove_dir_all(&path)
        {
            tracing::debug!(%error, path = %path.display(), "cannot delete the files of a server that was killed");
        }
    }
}

fn is_abandoned(path: &Path) -> io::Result<bool> {
    let metadata = fs::symlink_metadata(path)?;
    if !metadata.is_dir() || metadata.uid() != rustix::process::geteuid().as_raw() {
        return Ok(false);
    }
    match File::open(path.join(LOCK)) {
        // The lock ends with the process.
        Ok(lock) => Ok(lock.try_lock().is_ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let age = metadata.modified()?.elapsed().unwrap_or_default();
            Ok(age > ABANDONED_AFTER)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::{PREFIX, Temporary, delete_abandoned};

    #[test]
    fn the_directories_of_processes_that_were_killed_are_deleted() {
        let parent = tempfile::tempdir().unwrap();
        let path = |name: &str| parent.path().join(format!("{PREFIX}{name}"));
        let used = Temporary::make_in(parent.path()).unwrap();
        // The lock of a killed process is gone, and the file stays.
        fs::create_dir_all(path("killed/files")).unwrap();
        fs::write(path("killed/lock"), "").unwrap();
        fs::create_dir(path("new")).unwrap();
        fs::create_dir(parent.path().join("other")).unwrap();
        fs::write(parent.path().join("other/lock"), "").unwrap();
        symlink(parent.path().join("other"), path("link")).unwrap();
        delete_abandoned(parent.path());
        assert!(!path("killed").exists());
        assert!(used.path().exists() && path("new").exists() && path("link").exists());
        assert!(parent.path().join("other/lock").exists());
        let place = used.path().to_owned();
        drop(used);
        assert!(!place.exists());
    }
}
