//! A disk of a few megabytes, for tests that fill it.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Maximum number of files.
const FILES: u32 = 4000;

/// A file system in memory, mounted as long as this value lives.
pub struct SmallDisk {
    directory: PathBuf,
}

impl SmallDisk {
    /// Mounts a file system with this size in MiB and 4,000 files in a new directory below `place`. Prints a note and
    /// returns `None` where mounts are not permitted.
    ///
    /// # Panics
    /// Mounts are not permitted, and `K8S_CLI_E2E_MOUNTS` requires them.
    #[must_use]
    pub fn mount(place: &Path, mebibytes: u32) -> Option<Self> {
        let directory = place.join(format!("disk-{:016x}", fastrand::u64(..)));
        std::fs::create_dir_all(&directory).unwrap();
        let mounted = Command::new("mount")
            .args([
                "-t",
                "tmpfs",
                "-o",
                &format!("size={mebibytes}m,nr_inodes={FILES}"),
                "tmpfs",
            ])
            .arg(&directory)
            .output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self { directory });
        }
        std::fs::remove_dir(&directory).unwrap();
        assert!(
            std::env::var_os("K8S_CLI_E2E_MOUNTS").is_none(),
            "mounts are not permitted"
        );
        println!("skipped: mounts are not permitted; run this test as root");
        None
    }

    /// The path of the mount.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Number of files that can still be created.
    #[must_use]
    pub fn free_files(&self) -> u64 {
        rustix::fs::statvfs(&self.directory).unwrap().f_favail
    }

    /// Whether not even one page can be written.
    #[must_use]
    pub fn is_full(&self) -> bool {
        rustix::fs::statvfs(&self.directory).unwrap().f_bavail == 0
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a process that is about to exit may still use it.
        let _ = Command::new("umount").arg("-l").arg(&self.directory).status();
        let _ = std::fs::remove_dir(&self.directory);
    }
}
