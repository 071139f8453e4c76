//! Why an operation on the archive failed.

use std::path::PathBuf;
use std::time::Duration;

use files::HumanSize;

/// Why an operation on the archive failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The object store failed.
    #[error("cannot {action} `{path}` in the archive: {source}")]
    Store {
        /// What was to be done.
        action: &'static str,
        /// The object or the prefix.
        path: String,
        /// The error of the store.
        source: object_store::Error,
    },
    /// The object store did not answer.
    #[error("cannot {action} `{path}` in the archive: no answer within {} s", limit.as_secs())]
    Timeout {
        /// What was to be done.
        action: &'static str,
        /// The object or the prefix.
        path: String,
        /// How long the archive waited.
        limit: Duration,
    },
    /// The object store cannot be used.
    #[error("cannot use `{url}` as the archive: {source}")]
    Open {
        /// The location.
        url: String,
        /// Why.
        source: object_store::Error,
    },
    /// A directory cannot be created.
    #[error("cannot create the directory `{}`: {source}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A user would store more files than they may.
    #[error(
        "your files on the server would take {}, more than the limit of {}; leave out large files",
        HumanSize(stored.saturating_add(*more)),
        HumanSize(*limit)
    )]
    TooManyFiles {
        /// The size of what is stored.
        stored: u64,
        /// The size of what is missing.
        more: u64,
        /// The limit.
        limit: u64,
    },
    /// All users together would store more files than they may.
    #[error(
        "the files of all users would take more than the limit of {}; try again in a day, or ask the administrator for more room",
        HumanSize(*limit)
    )]
    FilesFull {
        /// The limit, in bytes.
        limit: u64,
    },
    /// The archive holds as much as it may.
    #[error("the archive is full")]
    Full,
    /// The archive holds as many logs of a user as it may.
    #[error("the user's logs have reached their limit in the archive")]
    UserFull,
    /// An object is not what its path says, e.g., because somebody else wrote it.
    #[error("`{path}` in the archive is invalid: {reason}")]
    Invalid {
        /// The object.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The index failed.
    #[error("the index of the archive failed: {source}")]
    Index {
        /// The error of SQLite.
        #[from]
        source: rusqlite::Error,
    },
    /// A record cannot be encoded.
    #[error("cannot encode a record: {source}")]
    Encoding {
        /// Why.
        #[from]
        source: serde_json::Error,
    },
}
