//! Errors of the engine as a whole.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why the engine cannot start or cannot store anything.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another server uses the state directory.
    #[error("`{}` is in use by another server; stop that server, or choose another directory with `--state-dir` or `K8S_CLI_API_STATE_DIR`", .0.display())]
    InUse(PathBuf),
    /// The directory contains files, but none that marks it as a state directory.
    #[error("`{}` is not a k8s-cli state directory: it contains `{found}`; choose an empty or new directory with `--state-dir`", .dir.display())]
    NotStateDir {
        /// The directory.
        dir: PathBuf,
        /// One of the entries that don't belong to k8s-cli.
        found: String,
    },
    /// The state directory was moved or deleted while it was in use.
    #[error("the state directory `{}` or its lock was moved, replaced, or deleted; restart the server", .0.display())]
    StateDirGone(PathBuf),
    /// The state directory cannot be used.
    #[error("cannot use `{}` as the state directory; choose another one with `--state-dir`", .path.display())]
    StateDir {
        /// The file or directory that failed.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The database cannot be used.
    #[error("cannot use the database `{}`", .path.display())]
    Database {
        /// The database file.
        path: PathBuf,
        /// The cause.
        source: rusqlite::Error,
    },
    /// The database was written by a newer version.
    #[error("the database `{}` was written by a newer version; upgrade k8s-cli, or choose another state directory with `--state-dir`", .0.display())]
    NewerSchema(PathBuf),
    /// The Kubernetes API cannot be served on the address.
    #[error("cannot serve the Kubernetes API on `{address}`; choose another address with `--kube-listen`")]
    Listen {
        /// The requested address.
        address: std::net::SocketAddr,
        /// The cause.
        source: io::Error,
    },
    /// The certificate for the Kubernetes API cannot be created.
    #[error("cannot create a certificate for the Kubernetes API")]
    Certificate(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The last transaction failed.
    #[error("cannot write to the database: {0}")]
    Unwritable(String),
    /// A transaction doesn't finish.
    #[error("the database has not answered for {} s", .0.as_secs())]
    Stalled(Duration),
    /// The disk is too full for more tasks.
    #[error("the disk of the state directory `{}` is full ({left}); stop tasks, delete volumes, or free up space", .dir.display())]
    DiskFull {
        /// The state directory.
        dir: PathBuf,
        /// What is left of the resource that is running out, e.g., `12 MiB left`.
        left: String,
    },
    /// The default state directory cannot be determined.
    #[error("neither `XDG_DATA_HOME` nor `HOME` is set; specify a state directory with `--state-dir`")]
    NoHomeDir,
}
