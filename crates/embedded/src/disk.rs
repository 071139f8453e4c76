//! The disk of the state folder: how much room it has, and a reserve that is given up when it has none.
//!
//! A disk that is full must not keep us from making room on it: to end a task and remove its files, a few pages have to be
//! written first. While the server runs they have their place in the database ([`crate::store`] keeps it); the reserve is for the
//! files that a start needs, and for what was not foreseen.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::container::Folder;
use crate::error::Error;
use crate::files::private_file;

/// How large the reserve is where the disk is not small, in bytes: a thousand tasks can be stopped with it.
const RESERVE: u64 = 4 << 20;

/// In how many parts it is given up at a start.
const PARTS: u64 = 8;

/// Of a small disk the reserve is this part.
const SMALL_PART: u64 = 16;

/// How many more files a disk must have room for: a stop makes none, and a task a few dozen.
const FILES: u64 = 1000;

/// The disk of a state folder.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    state: PathBuf,
    reserve: u64,
    files: u64,
}

/// What a process that is not root's can still use.
struct Left {
    bytes: u64,
    files: u64,
}

impl Disk {
    /// The disk of this state folder.
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

    /// Whether there is no room for more tasks. What is left, with the reserve, is for ending those that are there.
    pub fn is_low(&self) -> bool {
        let left = self.left();
        left.bytes < 2 * self.reserve || left.files < self.files
    }

    /// What is wrong when the disk is low.
    ///
    /// # Errors
    /// [`Error::DiskFull`].
    pub fn check(&self) -> Result<(), Error> {
        if !self.is_low() {
            return Ok(());
        }
        let left = self.left();
        Err(Error::DiskFull {
            folder: self.state.clone(),
            left: if left.files < self.files {
                format!("{} more files fit", left.files)
            } else {
                format!("{} MiB are free", left.bytes >> 20)
            },
        })
    }

    /// Makes the reserve, if it is not there and the disk is not low with it; whether it is there.
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
            tracing::debug!(%error, "no reserve is held on the disk");
            let _ = fs::remove_file(path);
        }
        filled.is_ok()
    }

    /// Gives the reserve up.
    pub fn release(&self) {
        if fs::remove_file(self.path()).is_ok() {
            tracing::warn!(state = %self.state.display(), "the disk is full, and the reserve on it was given up");
        }
    }

    /// Gives up a part of the reserve; false when there is none. Somebody who fills the disk takes it as soon as it is free, and
    /// there must be some for another try.
    pub fn release_part(&self) -> bool {
        let file = OpenOptions::new().write(true).open(self.path());
        file.is_ok_and(|file| {
            let size = file.metadata().map_or(0, |metadata| metadata.len());
            size > 0 && file.set_len(size.saturating_sub(self.reserve.div_ceil(PARTS))).is_ok()
        })
    }

    /// Makes room on a disk that is low, before anything is written to it: what nobody needs any more goes.
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

    /// A disk that cannot be asked has room, and so has one that counts no files.
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

/// Zeros that are really written, up to this size: a file with a hole takes no room.
fn fill(path: &Path, bytes: u64) -> io::Result<()> {
    let mut file: File = private_file().open(path)?;
    io::copy(&mut io::repeat(0).take(bytes), &mut file)?;
    file.sync_all()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}
