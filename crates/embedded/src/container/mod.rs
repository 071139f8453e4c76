//! Runs containers: a shim that outlives the server, and the user's command below it.
//!
//! ```text
//! server ──spawns──► shim ──spawns──► init ──becomes──► the user's command
//!                    holds the lock,  mounts, new root,
//!                    keeps the log,   working directory
//!                    writes the outcome
//! ```
//!
//! The shim is this same program, started with an argument that no user types. The server can be killed at any
//! time: the lock in a container's directory shows whether the shim is alive, and the outcome shows how the
//! container ended.

mod container_dir;
mod cri_log;
mod descendants;
mod entry;
#[cfg(target_os = "linux")]
mod exec;
mod inherited;
mod init;
mod processes;
#[cfg(target_os = "linux")]
mod rootfs;
mod shim;
mod spec;
#[cfg(target_os = "linux")]
mod unshare;

pub(crate) use container_dir::ContainerDir;
pub(crate) use cri_log::{LogRecord, list_log_files, missing_output_notice, parse_record};
pub use entry::run_if_container;
pub(crate) use entry::{EXEC_ARGUMENT, SHIM_ARGUMENT};
pub(crate) use inherited::open_file_limit;
pub use inherited::raise_file_limit;
pub(crate) use spec::{ContainerOutcome, ContainerSpec, Mount};
