//! A disk of a few megabytes, to be filled.

use std::path::{Path, PathBuf};
use std::process::Command;

/// How many files it can have.
const FILES: u32 = 4000;

/// A file system in memory, mounted as long as this lives.
pub struct SmallDisk {
    folder: PathBuf,
}

impl SmallDisk {
    /// Mounts one of so many MiB and 4,000 files at a new folder below `place`; `None` where mounts are not permitted, which is
    /// said.
    ///
    /// # Panics
    /// They are not, and `K8S_CLI_E2E_MOUNTS` says that they have to be.
    #[must_use]
    pub fn mount(place: &Path, mebibytes: u32) -> Option<Self> {
        let folder = place.join(format!("disk-{:016x}", fastrand::u64(..)));
        std::fs::create_dir_all(&folder).unwrap();
        let mounted = Command::new("mount")
            .args([
                "-t",
                "tmpfs",
                "-o",
                &format!("size={mebibytes}m,nr_inodes={FILES}"),
                "tmpfs",
            ])
            .arg(&folder)
            .output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self { folder });
        }
        std::fs::remove_dir(&folder).unwrap();
        assert!(
            std::env::var_os("K8S_CLI_E2E_MOUNTS").is_none(),
            "mounts are not permitted"
        );
        println!("not here: mounts are not permitted; run this test as root");
        None
    }

    /// Where it is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// How many more files it can have.
    #[must_use]
    pub fn free_files(&self) -> u64 {
        rustix::fs::statvfs(&self.folder).unwrap().f_favail
    }

    /// Whether not even a page can be written.
    #[must_use]
    pub fn is_full(&self) -> bool {
        rustix::fs::statvfs(&self.folder).unwrap().f_bavail == 0
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a process that is about to end may still be in it.
        let _ = Command::new("umount").arg("-l").arg(&self.folder).status();
        let _ = std::fs::remove_dir(&self.folder);
    }
}
