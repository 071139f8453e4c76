//! The state of a task as the API answers it.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The header that every answer of a server has, and no other program; its value is the version.
pub const SERVER_HEADER: &str = "k8s-cli-server";

/// Where a task, or one node of it, stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// No container runs yet; `reason` and `message` say why.
    Pending,
    /// A container runs.
    Running,
    /// Every node succeeded.
    Completed,
    /// A node failed.
    Failed,
}

impl State {
    /// Whether nothing will change any more.
    #[must_use]
    pub fn is_final(self) -> bool {
        match self {
            Self::Completed | Self::Failed => true,
            Self::Pending | Self::Running => false,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
        })
    }
}

/// The answer of `GET /tasks/{task_id}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TaskStatus {
    /// The identifier.
    pub task_id: String,
    /// What the person calls it, else `task-{task_id}`.
    pub name: String,
    /// The state of all nodes together.
    pub status: State,
    /// What keeps the task from running, or why it failed: one of Kubernetes' reasons.
    pub reason: Option<String>,
    /// The same for a person, naming the node.
    pub message: Option<String>,
    /// RFC 3339, UTC.
    pub created_at: String,
    /// When the state was last seen to change; RFC 3339, UTC.
    pub updated_at: String,
    /// The exact name of its owner.
    pub username: String,
    /// Where it is in Kubernetes, and each of its nodes.
    pub metadata: TaskMetadata,
}

/// Where a task is in Kubernetes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TaskMetadata {
    /// The Job of the first node.
    pub job_name: String,
    /// Its namespace.
    pub namespace: String,
    /// How many nodes were asked for.
    pub num_nodes: u32,
    /// The Jobs, in rank order.
    pub node_jobs: Vec<String>,
    /// How many nodes ended with exit code 0.
    pub succeeded_nodes: u32,
    /// How many nodes failed.
    pub failed_nodes: u32,
    /// How many nodes run.
    pub running_nodes: u32,
    /// How many nodes wait.
    pub pending_nodes: u32,
    /// The attempts before the present one, oldest first.
    #[serde(default)]
    pub attempts: Vec<AttemptStatus>,
    /// The nodes, in rank order.
    #[serde(default)]
    pub nodes: Vec<NodeStatus>,
}

/// An attempt to run a task that has ended, and was followed by another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AttemptStatus {
    /// 1 is the first.
    pub attempt: u32,
    /// Why it failed.
    pub reason: Option<String>,
    /// The same for a person, naming the node.
    pub message: Option<String>,
    /// When its first container started; RFC 3339, UTC.
    pub started_at: Option<String>,
    /// When its last container ended; RFC 3339, UTC.
    pub finished_at: Option<String>,
}

/// One node of a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeStatus {
    /// 0 to `num_nodes` - 1.
    pub rank: u32,
    /// Which attempt this is; 1 is the first.
    #[serde(default = "first_attempt")]
    pub attempt: u32,
    /// Its state.
    pub status: State,
    /// What keeps it from running, or why it failed.
    pub reason: Option<String>,
    /// The same for a person.
    pub message: Option<String>,
    /// Its Job.
    pub job_name: String,
    /// Its pod, once there is one.
    pub pod_name: Option<String>,
    /// The machine, once one is chosen.
    pub node_name: Option<String>,
    /// The pod's address, once it has one.
    pub pod_ip: Option<String>,
    /// What the container ended with.
    pub exit_code: Option<i32>,
    /// When the container started; RFC 3339, UTC.
    pub started_at: Option<String>,
    /// When the container ended; RFC 3339, UTC.
    pub finished_at: Option<String>,
}

fn first_attempt() -> u32 {
    1
}

/// A machine that tasks can run on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Machine {
    /// Kubernetes' name of it.
    pub name: String,
    /// Whether new pods are started on it.
    pub ready: bool,
    /// Processors that it gives to pods, as Kubernetes writes it.
    pub cpus: String,
    /// Memory that it gives to pods, as Kubernetes writes it.
    pub memory: String,
    /// GPUs that it gives to pods.
    pub gpus: u32,
}

/// The answer of `GET /version`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Version {
    /// The server's version.
    pub version: String,
    /// `cluster`, or `embedded` when tasks run on the server's machine.
    pub backend: String,
    /// Where the tasks are.
    pub namespace: String,
    /// The version of Kubernetes when the server started.
    pub kubernetes: String,
}
