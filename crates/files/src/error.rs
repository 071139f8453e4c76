//! Why files cannot be copied: read, sent, or written.

use std::io;
use std::path::{Path, PathBuf};

use crate::entry_path::{EntryPath, InvalidPath};
use crate::hash::ContentHash;
use crate::heaviest::Heavy;
use crate::limits::HumanSize;
use crate::text::{shortened, shown};

/// Why files cannot be copied: read, sent, or written.
///
/// The messages do not say how to leave something out, because that depends on who reads them.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A path is invalid.
    #[error(transparent)]
    Path(#[from] InvalidPath),
    /// There are more entries than allowed. Raised before any file is read.
    #[error("there are more than {limit} files and folders{}", named(heaviest))]
    TooManyEntries {
        /// The limit.
        limit: usize,
        /// The folders that have most of those that were seen.
        heaviest: Vec<Heavy>,
    },
    /// The files are larger than allowed. Raised before any file is read.
    #[error("the files take {}, more than the limit of {}{}", HumanSize(*bytes), HumanSize(*limit), named(heaviest))]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
        /// The size of all files in bytes.
        bytes: u64,
        /// What is largest.
        heaviest: Vec<Heavy>,
    },
    /// The files are larger than allowed when they are compressed. Raised before any file is sent.
    #[error("the files are more than {} when compressed, the limit of this server{}", HumanSize(*limit), named(heaviest))]
    PackedTooLarge {
        /// The limit in bytes.
        limit: u64,
        /// What is largest.
        heaviest: Vec<Heavy>,
    },
    /// A manifest is larger than allowed.
    #[error("the manifest is larger than {}{}", HumanSize(*limit as u64), named(heaviest))]
    ManifestTooLarge {
        /// The limit in bytes.
        limit: usize,
        /// The folders that have most entries.
        heaviest: Vec<Heavy>,
    },
    /// A line of a manifest is not what it should be.
    #[error("line {line} of the manifest is invalid: {reason}")]
    Manifest {
        /// The number of the line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// An entry is listed twice.
    #[error("the manifest lists `{path}` twice")]
    Duplicate {
        /// The entry.
        path: EntryPath,
    },
    /// An entry comes after one that it should precede.
    #[error("the manifest is not sorted at `{path}`")]
    Unsorted {
        /// The entry.
        path: EntryPath,
    },
    /// An entry is not in a folder that is listed before it, e.g., because that is a file or a link.
    #[error("the manifest lists `{path}`, but not the folder that it is in")]
    NotInFolder {
        /// The entry.
        path: EntryPath,
    },
    /// Two files have contents of the same name and different lengths.
    #[error("the manifest lists the content `{hash}` with two lengths")]
    Lengths {
        /// The name of the content.
        hash: ContentHash,
    },
    /// A link leads out of the folder.
    #[error("the link `{}` to `{}` is refused: {reason}", shown(path.as_path()), shortened(target))]
    Link {
        /// The link.
        path: EntryPath,
        /// Where it points to.
        target: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Something is neither a file, nor a folder, nor a link.
    #[error("`{}` is a {kind}, which cannot be copied", shown(path))]
    Special {
        /// Where it is.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// An ignore file has a line that is not a valid pattern.
    #[error("line {line} of `{}` is not a valid pattern: {source}", shown(path))]
    Pattern {
        /// The ignore file.
        path: PathBuf,
        /// The number of the line, from 1.
        line: usize,
        /// Why.
        source: ignore::Error,
    },
    /// A file was changed while it was being read, or since.
    #[error("`{}` changed while it was being read", shown(path))]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// A file has other bytes than before, but the same times. What a cache says of it is wrong.
    #[error("`{}` has changed without a new modification time", shown(path))]
    Unnoticed {
        /// The file.
        path: PathBuf,
    },
    /// A file or folder cannot be read or written.
    #[error("cannot {action} `{}`: {source}", shown(path))]
    Io {
        /// What was to be done.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A content is asked for that is in no file.
    #[error("no file has the content `{hash}`")]
    UnknownContent {
        /// Its name.
        hash: ContentHash,
    },
    /// The bytes of a pack are not contents.
    #[error("the pack is invalid at byte {at}: {reason}")]
    Pack {
        /// Where.
        at: usize,
        /// What is wrong there.
        reason: &'static str,
    },
    /// The folder to write into has something in it.
    #[error("`{}` is not empty", shown(path))]
    NotEmpty {
        /// The folder.
        path: PathBuf,
    },
    /// A content of a file cannot be got.
    #[error("cannot get the content `{hash}` of `{path}`: {source}")]
    Fetch {
        /// The file.
        path: EntryPath,
        /// The name of the content.
        hash: ContentHash,
        /// Why.
        source: io::Error,
    },
    /// The bytes that were given for a content of a file are not it.
    #[error("the bytes of content `{hash}` of `{path}` do not match its hash")]
    WrongContent {
        /// The file.
        path: EntryPath,
        /// The name of the content.
        hash: ContentHash,
    },
}

impl Error {
    /// The same with the paths of files in this folder relative to it.
    #[must_use]
    pub fn below(mut self, folder: &Path) -> Self {
        if let Self::Special { path, .. }
        | Self::Pattern { path, .. }
        | Self::Changed { path }
        | Self::Unnoticed { path }
        | Self::Io { path, .. } = &mut self
            && let Ok(rest) = path.strip_prefix(folder)
            && rest != Path::new("")
        {
            *path = rest.to_owned();
        }
        self
    }

    /// For `map_err`.
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}

fn named(heaviest: &[Heavy]) -> String {
    let named: Vec<_> = heaviest.iter().map(ToString::to_string).collect();
    if named.is_empty() {
        String::new()
    } else {
        format!("; the largest are {}", named.join(", "))
    }
}
