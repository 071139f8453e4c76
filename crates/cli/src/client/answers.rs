//! What the server answers.

use serde::Deserialize;
use serde_json::Value;
use task::status::Machine;

/// The answer to a submit.
#[derive(Debug, Deserialize)]
pub struct Submitted {
    /// The new task.
    pub task_id: String,
}

/// The answer to a submit that makes nothing.
#[derive(Debug, Deserialize)]
pub struct DryRun {
    /// The Kubernetes objects that would be made.
    pub manifests: Vec<Value>,
}

/// The answer to a stop of all tasks.
#[derive(Debug, Deserialize)]
pub struct Stopped {
    /// How many.
    pub count: u64,
}

/// The answer to the create of a volume.
#[derive(Debug, Deserialize)]
pub struct Created {
    /// The new volume.
    pub volume_id: String,
}

/// The answer to a stop or a delete.
#[derive(Debug, Deserialize)]
pub struct Removed {
    /// What happened.
    pub message: String,
}

/// The machines that tasks can run on.
#[derive(Debug, Deserialize)]
pub struct Nodes {
    /// In no order.
    pub nodes: Vec<Machine>,
}
