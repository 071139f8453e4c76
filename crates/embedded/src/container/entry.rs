//! The entry points of processes that are part of a container: this same program, started with a hidden argument.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use super::container_dir::ContainerDir;
#[cfg(target_os = "linux")]
use super::exec;
use super::{init, shim};

/// Argument that makes the program the shim of the container in the directory that follows.
pub(crate) const SHIM_ARGUMENT: &str = "__container-supervise";
/// Argument that makes the program run a command in the container of the process whose PID follows.
pub(crate) const EXEC_ARGUMENT: &str = "__container-probe";

/// Runs this process as a part of a container, if it was started as one, and returns its exit code. Otherwise returns
/// `None`.
#[must_use]
pub fn run_if_container() -> Option<ExitCode> {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).take(2).collect();
    let [word, dir] = arguments.as_slice() else {
        return None;
    };
    match word.to_str()? {
        SHIM_ARGUMENT => Some(shim::run_shim(&ContainerDir::at(PathBuf::from(dir)))),
        init::INIT_ARGUMENT => Some(init::run_init(&ContainerDir::at(PathBuf::from(dir)))),
        #[cfg(target_os = "linux")]
        EXEC_ARGUMENT => Some(exec::run_exec(dir)),
        _ => None,
    }
}
