//! The disk of the state directory: how much space is left, and a reserve that is released when there is none.
//!
//! A full disk must not keep us from freeing space: stopping a task and removing its files starts with writing a few
//! pages. While the server runs, the database has space for those ([`crate::store`]). The reserve is for the files that
//! a start writes, and for the unforeseen.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::container::Folder;
use crate::error::Error;
use crate::files::private_file;

/// Size of the reserve in bytes, except on small disks. It is enough to stop a thousand tasks.
const RESERVE: u64 = 4 << 20;

/// Number of parts in which a start releases the reserve.
const PARTS: u64 = 8;

/// On small disks, the reserve is the disk's size divided by this.
const SMALL_PART: u64 = 16;

/// Minimum number of free inodes. Stopping a task needs none, and starting one needs a few dozen.
const FILES: u64 = 1000;

/// The disk that holds the state directory.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    state: PathBuf,
    reserve: u64,
    files: u64,
}

/// Space and inodes left for processes that don't run as root.
struct Left {
    bytes: u64,
    files: u64,
}

impl Disk {
    pub fn of(state: &Path) -> Self {
        let disk = rustix::fs::statvfs(state);
        let (bytes, files) = disk.map_or((u64::MAX, u64::MAX), |disk| {
            (disk.f_blocks.saturating_mul(disk.f_frsize), disk.f_files)
        });
        Self {
            state: state.to_owned(),
            reserve: RESERVE.min(bytes / SMALL_PART),
            files: FILES.min(files / SMALL_PART),
        }
    }

    /// Whether the disk is too full for more tasks. What is left, and the reserve, is for stopping the existing ones.
    pub fn is_low(&self) -> bool {
        let left = self.left();
        left.bytes < 2 * self.reserve || left.files < self.files
    }

    /// Returns [`Error::DiskFull`] if the disk is too full for more tasks.
    pub fn check(&self) -> Result<(), Error> {
        if !self.is_low() {
            return Ok(());
        }
        let left = self.left();
        Err(Error::DiskFull {
            folder: self.state.clone(),
            left: if left.files < self.files {
                format!("{} inodes left", left.files)
            } else {
                format!("{} MiB left", left.bytes >> 20)
            },
        })
    }

    /// Creates the reserve, unless the disk would be low with it. Returns whether the reserve exists.
    pub fn hold(&self) -> bool {
        let path = self.path();
        if fs::metadata(&path).is_ok_and(|metadata| metadata.len() >= self.reserve) {
            return true;
        }
        if self.left().bytes < 3 * self.reserve {
            return false;
        }
        let filled = fill(&path, self.reserve);
        if let Err(error) = &filled {
            tracing::debug!(%error, "cannot create the reserve on the disk");
            let _ = fs::remove_file(path);
        }
        filled.is_ok()
    }

    /// Releases the whole reserve.
    pub fn release(&self) {
        if fs::remove_file(self.path()).is_ok() {
            tracing::warn!(state = %self.state.display(), "the disk is full; released the reserve");
        }
    }

    /// Releases a part of the reserve. Returns false if nothing is left of it. Whatever fills the disk may take the
    /// space as soon as it is free, so the other parts are kept for more attempts.
    pub fn release_part(&self) -> bool {
        let file = OpenOptions::new().write(true).open(self.path());
        file.is_ok_and(|file| {
            let size = file.metadata().map_or(0, |metadata| metadata.len());
            size > 0 && file.set_len(size.saturating_sub(self.reserve.div_ceil(PARTS))).is_ok()
        })
    }

    /// Frees space on a disk that is low, before anything is written to it: empties the trash, and removes the files of
    /// containers that have ended.
    pub fn clear(&self) {
        for entry in entries(&self.state.join("trash")) {
            let _ = fs::remove_dir_all(entry);
        }
        for entry in entries(&self.state.join("pods")) {
            let folder = Folder::at(entry);
            if folder.has_ended() {
                folder.make_room();
            }
        }
    }

    /// A disk that cannot be queried counts as having space, and a file system that doesn't count inodes as having
    /// inodes.
    fn left(&self) -> Left {
        rustix::fs::statvfs(&self.state).map_or(
            Left {
                bytes: u64::MAX,
                files: u64::MAX,
            },
            |disk| Left {
                bytes: disk.f_bavail.saturating_mul(disk.f_frsize),
                files: if disk.f_files == 0 { u64::MAX } else { disk.f_favail },
            },
        )
    }

    fn path(&self) -> PathBuf {
        self.state.join("reserve")
    }
}

/// Writes zeros up to this size. A sparse file would not occupy any space.
fn fill(path: &Path, bytes: u64) -> io::Result<()> {
    let mut file: File = private_file().open(path)?;
    io::copy(&mut io::repeat(0).take(bytes), &mut file)?;
    file.sync_all()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}
