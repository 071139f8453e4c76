//! What can go wrong with the engine as a whole.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why the engine does not start, or does not work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another server uses the state folder.
    #[error("`{}` is in use by another server; stop that one, or choose another folder with `--state-dir` or K8S_CLI_API_STATE_DIR", .0.display())]
    InUse(PathBuf),
    /// The folder holds something, and nothing in it says that it is a state folder.
    #[error("`{}` is no state folder of k8s-cli: it holds `{found}`; choose an empty or a new folder with `--state-dir`", .folder.display())]
    NotOurs {
        /// The folder.
        folder: PathBuf,
        /// Something in it.
        found: String,
    },
    /// The state folder cannot be used.
    #[error("cannot use `{}` as the state folder; choose another one with `--state-dir`", .path.display())]
    StateFolder {
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The database cannot be used.
    #[error("cannot use the database `{}`", .path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: rusqlite::Error,
    },
    /// The database was written by a newer version.
    #[error("the database `{}` was written by a newer version; use that version, or another `--state-dir`", .0.display())]
    Newer(PathBuf),
    /// The address for `kubectl` cannot be served.
    #[error("cannot serve the Kubernetes API on `{address}`; choose another address with `--kube-listen`")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The certificate for `kubectl` cannot be made.
    #[error("cannot make a certificate for the Kubernetes API")]
    Certificate(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The last transaction failed.
    #[error("the database cannot be written: {0}")]
    Unwritable(String),
    /// A transaction does not come to its end.
    #[error("the database has not answered for {} s", .0.as_secs())]
    Hanging(Duration),
    /// There is no room for more tasks.
    #[error("the disk of the state folder `{}` is full ({left}); stop tasks, delete volumes, or make room on it", .folder.display())]
    DiskFull {
        /// The state folder.
        folder: PathBuf,
        /// What is left of what is running out.
        left: String,
    },
    /// There is no home folder to keep the state under.
    #[error("neither `XDG_DATA_HOME` nor `HOME` is set; say where to keep the state with `--state-dir`")]
    NoHome,
}
