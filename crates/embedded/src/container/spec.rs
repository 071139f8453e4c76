//! What a container consists of, and how it ended. Both are files between the server and the shim.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A container to run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ContainerSpec {
    /// The command and its arguments.
    pub command: Vec<String>,
    /// All environment variables.
    pub environment: Vec<(String, String)>,
    /// Working directory. By default, the pod's own directory.
    #[serde(rename = "working_folder")]
    pub working_dir: Option<String>,
    pub hostname: String,
    /// Mounts in addition to the host's own files.
    pub mounts: Vec<Mount>,
    /// Size limit for the log, in bytes. The oldest part is removed first.
    pub log_limit: u64,
    /// Control groups to join.
    #[serde(rename = "control_groups")]
    pub cgroups: Vec<PathBuf>,
    /// Limit of open files. By default, that of the shim.
    #[serde(default, rename = "open_files")]
    pub open_file_limit: Option<u64>,
}

/// A directory or file of the host, mounted in the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mount {
    /// Path on the host.
    pub source: PathBuf,
    /// Path in the container.
    pub target: PathBuf,
    pub read_only: bool,
}

/// How a container ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ContainerOutcome {
    /// Exit code. If a signal ended the container, 128 plus the number of the signal.
    pub code: i32,
    pub signal: Option<i32>,
    /// Whether the container exceeded its memory limit.
    pub out_of_memory: bool,
    /// Why the container could not start.
    pub error: Option<String>,
    pub at: Timestamp,
    /// Bytes of output that could not be written, unless the log itself reports them.
    #[serde(default)]
    pub lost_log_bytes: u64,
}
