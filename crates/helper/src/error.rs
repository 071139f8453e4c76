//! Why the files of a task could not be fetched or copied, or its outputs sent.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why the files of a task could not be fetched, or its outputs sent.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A variable is missing, or is not what it should be.
    #[error("the variable `{name}` is {fault}; it is set by the server for the script of a node")]
    Variable {
        /// Its name.
        name: &'static str,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// The client for HTTP cannot be made.
    #[error("cannot prepare requests: {0}")]
    Client(String),
    /// The server answered that it will not send the files.
    #[error("`{url}` answered with status {status}: {detail}")]
    Refused {
        /// What was asked for.
        url: String,
        /// The HTTP status.
        status: u16,
        /// The reason of the server, or the beginning of another answer.
        detail: String,
    },
    /// The server sent something other than what was asked for.
    #[error("`{url}` sent {what}; a proxy may have changed it")]
    Unexpected {
        /// What was asked for.
        url: String,
        /// What was sent.
        what: &'static str,
    },
    /// The server could not be reached for too long.
    #[error("nothing has arrived for {} seconds: {last}", patience.as_secs())]
    GaveUp {
        /// How long nothing arrived.
        patience: Duration,
        /// The last failure.
        last: String,
    },
    /// The file to write is not in the file set.
    #[error("the file set has no file `{name}`")]
    NoSuchFile {
        /// The file.
        name: String,
    },
    /// The server asks again and again for what was sent.
    #[error("`{url}` still reports contents as missing after they were sent")]
    NotKept {
        /// Where it was sent.
        url: String,
    },
    /// An output must be text, and have a path.
    #[error("invalid output `{text}`; expected NAME and PATH")]
    Output {
        /// The argument.
        text: String,
    },
    /// Some outputs cannot be read. The others are kept.
    #[error("{}", .0.join("; "))]
    Outputs(Vec<String>),
    /// The address of what to copy is not one.
    #[error("`{url}`: {reason}")]
    Address {
        /// The address.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// There is nothing to copy.
    #[error("there is nothing at `{url}`")]
    Nothing {
        /// The address.
        url: String,
    },
    /// The bucket or web server denies access.
    #[error("access to `{url}` is denied: {advice}")]
    Denied {
        /// The address.
        url: String,
        /// What to do.
        advice: String,
    },
    /// The bucket or the web server answers something else.
    #[error("cannot read `{url}`: {reason}")]
    Store {
        /// The address.
        url: String,
        /// Why.
        reason: String,
    },
    /// An object has a name that no file can have.
    #[error("the object `{key}` has no place in the folder: {reason}; rename it, or copy what you need in `setup`")]
    Name {
        /// The name of the object.
        key: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A file is to be written where a folder is.
    #[error(
        "`{}` is a folder on the node, but the source is a file; append a file name, e.g., `{}/data.bin`",
        path.display(),
        path.display()
    )]
    IsFolder {
        /// The folder.
        path: PathBuf,
    },
    /// SIGTERM arrived.
    #[error("the node is being terminated")]
    Terminated,
    /// A file cannot be written, or the file set is not valid.
    #[error(transparent)]
    Files(#[from] files::Error),
    /// A folder or a program cannot be read or written.
    #[error("cannot {action} `{}`: {source}", path.display())]
    Io {
        /// What was to be done.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Error {
    /// For `map_err`.
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}
