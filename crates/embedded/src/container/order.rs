//! What the server orders, and what the supervisor reports.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A container to be run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Order {
    /// The command and its arguments.
    pub command: Vec<String>,
    /// All its variables.
    pub environment: Vec<(String, String)>,
    /// Where it begins; the pod's own folder when `None`.
    pub working_folder: Option<String>,
    /// What `hostname` says.
    pub hostname: String,
    /// What is mounted, beside the host's own files.
    pub mounts: Vec<Mount>,
    /// How large its log may grow, in bytes; the oldest part goes first.
    pub log_limit: u64,
    /// The control groups that it joins.
    pub control_groups: Vec<PathBuf>,
    /// How many files its processes may open; what the supervisor may when absent.
    #[serde(default)]
    pub open_files: Option<u64>,
}

/// A folder or file of the host at a path of the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// On the host.
    pub source: PathBuf,
    /// In the container.
    pub target: PathBuf,
    /// Whether it cannot be written.
    pub read_only: bool,
}

/// How a container ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The exit code; 128 and the number of the signal when one ended it.
    pub code: i32,
    /// The signal.
    pub signal: Option<i32>,
    /// Whether it took more memory than it may.
    pub out_of_memory: bool,
    /// Why it could not begin.
    pub error: Option<String>,
    /// When.
    pub at: Timestamp,
    /// How much of its output could not be kept, in bytes, as far as its log does not say so itself.
    #[serde(default)]
    pub lost_log_bytes: u64,
}
