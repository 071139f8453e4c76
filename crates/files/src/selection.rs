//! What of a folder on this machine is copied, before any file is read.

use std::fs::{File, Metadata, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::entry::{LinkTarget, Mode};
use crate::entry_path::EntryPath;
use crate::error::Error;
use crate::heaviest::{Heavy, Weight, heaviest};
use crate::ignore_files::is_absent;
use crate::left_out::LeftOut;
use crate::limits::Limits;
use crate::manifest::NAMED_PATHS;
use crate::mtime::Mtime;
use crate::tree::{self, Shape};

const NS_PER_SECOND: i64 = 1_000_000_000;

/// What of a folder is copied, or a single file.
#[derive(Debug, Clone)]
pub struct Selection {
    pub(crate) root: Root,
    pub(crate) entries: Vec<Found>,
    pub(crate) left_out: LeftOut,
    pub(crate) limits: Limits,
}

/// Where the entries are on this machine.
#[derive(Debug, Clone)]
pub(crate) enum Root {
    /// In this folder, at their paths.
    Folder(PathBuf),
    /// There is one entry, and this is the file. The name of the entry may be another one.
    File(PathBuf),
}

/// A file, folder, or link that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Where it is in the folder.
    pub path: EntryPath,
    /// What it is.
    pub kind: FoundKind,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FoundKind {
    /// A folder.
    Directory {
        /// Who may use it.
        mode: Mode,
    },
    /// A file.
    File {
        /// Who may use it.
        mode: Mode,
        /// What changes when the file does.
        stamp: Stamp,
    },
    /// A symbolic link, which is not followed.
    Link {
        /// Where it points to.
        target: LinkTarget,
    },
}

/// What changes when a file does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// The size in bytes.
    pub size: u64,
    /// When the content was last changed, in nanoseconds since 1970.
    pub modified_ns: i64,
    /// When the content or anything else of the file was last changed, in nanoseconds since 1970.
    pub changed_ns: i64,
    /// The number of the file in its file system.
    pub inode: u64,
}

/// What became of the content of a file since the walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Since {
    Same,
    /// Something may have been added at its end, as to a log.
    Longer,
    Other,
}

impl Stamp {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        // The year 2262 is the end; a later time is still a time that changes to another.
        let ns = |seconds: i64, rest: i64| seconds.saturating_mul(NS_PER_SECOND).saturating_add(rest);
        Self {
            size: metadata.size(),
            modified_ns: ns(metadata.mtime(), metadata.mtime_nsec()),
            changed_ns: ns(metadata.ctime(), metadata.ctime_nsec()),
            inode: metadata.ino(),
        }
    }

    /// When the content was last changed.
    pub(crate) fn mtime(&self) -> Mtime {
        Mtime::nearest(self.modified_ns.div_euclid(NS_PER_SECOND))
    }

    /// What became of the content since. Another link to the file, or another owner, changes only `changed_ns`.
    pub(crate) fn since(&self, now: &Self) -> Since {
        if (self.size, self.modified_ns, self.inode) == (now.size, now.modified_ns, now.inode) {
            Since::Same
        } else if self.inode == now.inode && self.size < now.size {
            Since::Longer
        } else {
            Since::Other
        }
    }
}

impl Found {
    /// The size of a file in bytes; 0 for others.
    #[must_use]
    pub fn size(&self) -> u64 {
        match &self.kind {
            FoundKind::File { stamp, .. } => stamp.size,
            FoundKind::Directory { .. } | FoundKind::Link { .. } => 0,
        }
    }
}

impl Selection {
    /// Sorts and checks what was found.
    pub(crate) fn new(root: Root, mut entries: Vec<Found>, left_out: LeftOut, limits: &Limits) -> Result<Self, Error> {
        entries.sort_unstable_by(|left, right| left.path.cmp(&right.path));
        let selection = Self {
            root,
            entries,
            left_out,
            limits: *limits,
        };
        if selection.entries.len() > limits.max_entries {
            return Err(Error::TooManyEntries {
                limit: limits.max_entries,
                heaviest: selection.heaviest(NAMED_PATHS, Weight::Entries),
            });
        }
        let bytes = selection.total_bytes();
        if bytes > limits.max_total_bytes {
            return Err(Error::TooLarge {
                limit: limits.max_total_bytes,
                bytes,
                heaviest: selection.largest(NAMED_PATHS),
            });
        }
        tree::check(selection.entries.iter().map(|entry| (&entry.path, entry.shape())))?;
        Ok(selection)
    }

    /// What was found, sorted by path. The folder itself is no entry.
    #[must_use]
    pub fn entries(&self) -> &[Found] {
        &self.entries
    }

    /// What was left out.
    #[must_use]
    pub fn left_out(&self) -> &LeftOut {
        &self.left_out
    }

    /// The number of files.
    #[must_use]
    pub fn files(&self) -> usize {
        self.entries
            .iter()
            .filter(|entry| matches!(entry.kind, FoundKind::File { .. }))
            .count()
    }

    /// The bytes of all files together.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.entries.iter().map(Found::size).fold(0, u64::saturating_add)
    }

    /// At most `count` files and folders that make most of the size, the largest first.
    ///
    /// A folder stands for what is in it, unless one thing in it makes more than half of it.
    #[must_use]
    pub fn largest(&self, count: usize) -> Vec<Heavy> {
        self.heaviest(count, Weight::Bytes)
    }

    pub(crate) fn heaviest(&self, count: usize, weight: Weight) -> Vec<Heavy> {
        let entries = self.entries.iter().map(|entry| {
            let is_directory = matches!(entry.kind, FoundKind::Directory { .. });
            (&entry.path, entry.size(), is_directory)
        });
        heaviest(entries, count, weight)
    }

    /// Where an entry is on this machine.
    pub(crate) fn place(&self, path: &EntryPath) -> PathBuf {
        match &self.root {
            Root::Folder(root) => root.join(path.as_path()),
            Root::File(file) => file.clone(),
        }
    }
}

impl Found {
    pub(crate) fn shape(&self) -> Shape<'_> {
        match &self.kind {
            FoundKind::Directory { .. } => Shape::Directory,
            FoundKind::File { .. } => Shape::File,
            FoundKind::Link { target } => Shape::Link(target),
        }
    }
}

/// Opens a file to read it; `None` if it is gone.
pub(crate) fn open(place: &Path) -> Result<Option<File>, Error> {
    let mut options = OpenOptions::new();
    // A link or a FIFO that took the place of the file is neither followed nor waited for.
    options
        .read(true)
        .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed());
    match options.open(place) {
        Ok(file) => Ok(Some(file)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) if Errno::from_io_error(&error) == Some(Errno::LOOP) => {
            Err(Error::Changed { path: place.to_owned() })
        }
        Err(error) => Err(Error::io("read", place)(error)),
    }
}

/// What became of an open file since it had this stamp.
pub(crate) fn since(file: &File, place: &Path, stamp: &Stamp) -> Result<Since, Error> {
    let metadata = file.metadata().map_err(Error::io("read", place))?;
    Ok(if metadata.is_file() {
        stamp.since(&Stamp::of(&metadata))
    } else {
        Since::Other
    })
}
