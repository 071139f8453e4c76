//! The disk of the state directory: how much space is left, and a reserve that is released when there is none.
//!
//! A full disk must not keep us from freeing space: stopping a task and removing its files starts with writing a few
//! pages. While the server runs, the database has space for those ([`crate::store`]). The reserve is for the files that
//! a start writes, and for the unforeseen.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::container::ContainerDir;
use crate::error::Error;
use crate::files::private_file_options;

/// Size of the reserve in bytes, except on small disks. It is enough to stop a thousand tasks.
const RESERVE_BYTES: u64 = 4 << 20;

/// Number of parts in which a start releases the reserve. Many, because a task that keeps writing competes for each.
const RELEASE_PARTS: u64 = 32;

/// Minimum size of a part: twice the index of a write-ahead log, which is created first.
const MIN_RELEASE_BYTES: u64 = 64 << 10;

/// On small disks, the reserve is the disk's size divided by this.
const SMALL_DISK_DIVISOR: u64 = 16;

/// Minimum number of free inodes. Stopping a task needs none, and starting one needs a few dozen.
const MIN_FREE_INODES: u64 = 1000;

/// The disk that holds the state directory.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    state_dir: PathBuf,
    reserve: u64,
    inodes: u64,
}

/// Space and inodes left for processes that don't run as root.
struct FreeSpace {
    bytes: u64,
    inodes: u64,
}

impl Disk {
    pub(crate) fn of_state_dir(state_dir: &Path) -> Self {
        let disk = rustix::fs::statvfs(state_dir);
        let (bytes, inodes) = disk.map_or((u64::MAX, u64::MAX), |disk| {
            (disk.f_blocks.saturating_mul(disk.f_frsize), disk.f_files)
        });
        Self {
            state_dir: state_dir.to_owned(),
            reserve: RESERVE_BYTES.min(bytes / SMALL_DISK_DIVISOR),
            inodes: MIN_FREE_INODES.min(inodes / SMALL_DISK_DIVISOR),
        }
    }

    /// Whether the disk is too full for more tasks. What is left, and the reserve, is for stopping the existing ones.
    pub(crate) fn is_low(&self) -> bool {
        let free_space = self.free_space();
        free_space.bytes < 2 * self.reserve || free_space.inodes < self.inodes
    }

    /// Returns [`Error::DiskFull`] if the disk is too full for more tasks.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if !self.is_low() {
            return Ok(());
        }
        let free_space = self.free_space();
        Err(Error::DiskFull {
            dir: self.state_dir.clone(),
            left: if free_space.inodes < self.inodes {
                format!("{} inodes left", free_space.inodes)
            } else {
                format!("{} MiB left", free_space.bytes >> 20)
            },
        })
    }

    /// Creates the reserve, unless the disk would be low with it. Returns whether the reserve exists.
    pub(crate) fn create_reserve(&self) -> bool {
        let reserve_path = self.reserve_path();
        if fs::metadata(&reserve_path).is_ok_and(|metadata| metadata.len() >= self.reserve) {
            return true;
        }
        if self.free_space().bytes < 3 * self.reserve {
            return false;
        }
        let filled = write_zeros(&reserve_path, self.reserve);
        if let Err(error) = &filled {
            tracing::debug!(%error, "cannot create the reserve on the disk");
            let _ = fs::remove_file(reserve_path);
        }
        filled.is_ok()
    }

    /// Releases the whole reserve.
    pub(crate) fn release_reserve(&self) {
        if fs::remove_file(self.reserve_path()).is_ok() {
            tracing::warn!(state = %self.state_dir.display(), "the disk is full; released the reserve");
        }
    }

    /// Releases a part of the reserve. Returns false if nothing is left of it. Whatever fills the disk may take the
    /// space as soon as it is free, so the other parts are kept for more attempts.
    pub(crate) fn release_reserve_part(&self) -> bool {
        let part = self.reserve.div_ceil(RELEASE_PARTS).max(MIN_RELEASE_BYTES);
        let file = OpenOptions::new().write(true).open(self.reserve_path());
        file.is_ok_and(|file| {
            let size = file.metadata().map_or(0, |metadata| metadata.len());
            size > 0 && file.set_len(size.saturating_sub(part)).is_ok()
        })
    }

    /// Frees space on a disk that is low, before anything is written to it: empties the trash, and removes the files of
    /// containers that have ended.
    pub(crate) fn free_up(&self) {
        for entry in list_entries(&self.state_dir.join("trash")) {
            let _ = fs::remove_dir_all(entry);
        }
        for entry in list_entries(&self.state_dir.join("pods")) {
            let dir = ContainerDir::at(entry);
            if dir.has_ended() {
                dir.free_space();
            }
        }
    }

    /// A disk that cannot be queried counts as having space, and a file system that doesn't count inodes as having
    /// inodes.
    fn free_space(&self) -> FreeSpace {
        rustix::fs::statvfs(&self.state_dir).map_or(
            FreeSpace {
                bytes: u64::MAX,
                inodes: u64::MAX,
            },
            |disk| FreeSpace {
                bytes: disk.f_bavail.saturating_mul(disk.f_frsize),
                inodes: if disk.f_files == 0 { u64::MAX } else { disk.f_favail },
            },
        )
    }

    fn reserve_path(&self) -> PathBuf {
        self.state_dir.join("reserve")
    }
}

/// Writes zeros up to this size. A sparse file would not occupy any space.
fn write_zeros(path: &Path, bytes: u64) -> io::Result<()> {
    let mut file: File = private_file_options().open(path)?;
    io::copy(&mut io::repeat(0).take(bytes), &mut file)?;
    file.sync_all()
}

fn list_entries(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}
