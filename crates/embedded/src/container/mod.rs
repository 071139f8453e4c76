//! The processes of a container: a supervisor that outlives the server, and the user's command below it.
//!
//! ```text
//! server ──spawns──► supervisor ──spawns──► beginner ──becomes──► the user's command
//!                    holds the lock,        mounts, new root,
//!                    keeps the log,         working folder
//!                    writes the outcome
//! ```
//!
//! The supervisor is the same program, called with a word that no user types. The server can be killed at any instant: the
//! lock of a container's folder says whether its supervisor lives, and the outcome in it how it ended.

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

/// The word that makes the program a supervisor of the container in the folder that follows.
pub const SUPERVISE: &str = "__container-supervise";
/// The word that makes it a command within the container whose process number follows.
pub const PROBE: &str = "__container-probe";

/// Does what this process was started for, if it was started for a container.
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
