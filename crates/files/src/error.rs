//! Why files cannot be taken along, sent, or written.

use std::io;
use std::path::PathBuf;

use crate::entry_path::{EntryPath, InvalidPath};
use crate::hash::ContentHash;
use crate::heaviest::Heavy;
use crate::limits::HumanSize;

/// Why files cannot be taken along, sent, or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A path is invalid.
    #[error(transparent)]
    Path(#[from] InvalidPath),
    /// There are more entries than allowed. Raised before any file is read.
    #[error("more than {limit} files and folders{}", advice(heaviest))]
    TooManyEntries {
        /// The limit.
        limit: usize,
        /// The folders that have most of those that were seen.
        heaviest: Vec<Heavy>,
    },
    /// The files are larger than allowed. Raised before any file is read.
    #[error("the files have {}, and the limit is {}{}", HumanSize(*bytes), HumanSize(*limit), advice(heaviest))]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
        /// The size of all files in bytes.
        bytes: u64,
        /// What is largest.
        heaviest: Vec<Heavy>,
    },
    /// The files are larger than allowed when they are compressed. Raised before any file is sent.
    #[error("the files have more than {} when compressed, the limit of this server{}", HumanSize(*limit), advice(heaviest))]
    PackedTooLarge {
        /// The limit in bytes.
        limit: u64,
        /// What is largest.
        heaviest: Vec<Heavy>,
    },
    /// A manifest is larger than allowed.
    #[error("the manifest has more than {}; take fewer or smaller files along", HumanSize(*limit as u64))]
    ManifestTooLarge {
        /// The limit in bytes.
        limit: usize,
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
    #[error("the link `{path}` to `{target}` is refused: {reason}")]
    Link {
        /// The link.
        path: EntryPath,
        /// Where it points to.
        target: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Something is neither a file, nor a folder, nor a link.
    #[error("`{}` is a {kind}, which cannot be taken along; remove it, or add it to `.skyignore`", path.display())]
    Special {
        /// Where it is.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// An ignore file has a line that is no pattern.
    #[error("line {line} of `{}` is no pattern: {source}", path.display())]
    Pattern {
        /// The ignore file.
        path: PathBuf,
        /// The number of the line, from 1.
        line: usize,
        /// Why.
        source: ignore::Error,
    },
    /// A file was changed while it was being read, or since.
    #[error("`{}` has changed while it was being read; try again, or add it to `.skyignore`", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// A file or folder cannot be read or written.
    #[error("cannot {action} `{}`: {source}", path.display())]
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
    #[error("`{}` is not empty", path.display())]
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
    #[error("what was given for the content `{hash}` of `{path}` is not it")]
    WrongContent {
        /// The file.
        path: EntryPath,
        /// The name of the content.
        hash: ContentHash,
    },
}

impl Error {
    /// For `map_err`.
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}

fn advice(heaviest: &[Heavy]) -> String {
    let named: Vec<_> = heaviest.iter().map(ToString::to_string).collect();
    if named.is_empty() {
        String::new()
    } else {
        format!(
            "; add what is not needed to `.skyignore`, the largest being {}",
            named.join(", ")
        )
    }
}
