//! Runs containers: a supervisor that outlives the server, and the user's command below it.
//!
//! ```text
//! server ──spawns──► supervisor ──spawns──► launcher ──becomes──► the user's command
//!                    holds the lock,        mounts, new root,
//!                    keeps the log,         working directory
//!                    writes the outcome
//! ```
//!
//! The supervisor is this same program, started with an argument that no user types. The server can be killed at any
//! time: the lock in a container's directory shows whether the supervisor is alive, and the outcome shows how the
//! container ended.

mod begin;
mod family;
mod folder;
mod inherited;
mod order;
#[cfg(target_os = "linux")]
mod probe;
mod processes;
mod record;
#[cfg(target_os = "linux")]
mod root;
mod supervise;
#[cfg(target_os = "linux")]
mod unshare;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

pub use folder::Folder;
pub use inherited::{open_files, raise_file_limit};
pub use order::{Mount, Order, Outcome};
pub use record::{Record, gap, parse_record, segments};

/// Argument that makes the program supervise the container in the directory that follows.
pub const SUPERVISE: &str = "__container-supervise";
/// Argument that makes the program run a command in the container of the process whose PID follows.
pub const PROBE: &str = "__container-probe";

/// Runs this process as a part of a container, if it was started as one, and returns its exit code. Otherwise returns
/// `None`.
#[must_use]
pub fn entered() -> Option<ExitCode> {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).take(2).collect();
    let [word, folder] = arguments.as_slice() else {
        return None;
    };
    match word.to_str()? {
        SUPERVISE => Some(supervise::run(&Folder::at(PathBuf::from(folder)))),
        begin::BEGIN => Some(begin::run(&Folder::at(PathBuf::from(folder)))),
        #[cfg(target_os = "linux")]
        PROBE => Some(probe::run(folder)),
        _ => None,
    }
}
