//! The record of a task that has ended, and the entry of a task in a list of such records.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::wire::{TaskState, TaskStatus};

/// The version of [`TaskRecord`] that this program writes.
pub const RECORD_VERSION: u32 = 1;

/// What is known about a task, also after it was deleted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TaskRecord {
    /// Version of the format.
    pub version: u32,
    /// Status of the task; once it has ended, the last one.
    pub task: TaskStatus,
    /// How the task ended; absent until it has ended and its logs are archived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub end: Option<TaskEnd>,
    /// The task as it was submitted, without the values of secrets; absent if it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, value_type = Object)]
    pub definition: Option<Value>,
    /// What each node requested; absent if it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub requests: Option<NodeRequests>,
    /// What the task used, counted as what its nodes requested while their containers ran.
    pub usage: Usage,
    /// The logs of its pods, in the order of nodes and attempts.
    pub logs: Vec<PodLogRecord>,
}

/// How a task ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TaskEnd {
    /// How it ended.
    pub how: EndKind,
    /// When that was noticed (RFC 3339, UTC).
    #[schema(format = DateTime)]
    pub at: String,
    /// Who stopped or canceled it; null if nobody did.
    #[schema(required = true)]
    pub by: Option<String>,
}

/// How a task ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum EndKind {
    /// Its nodes ended.
    Finished,
    /// It was canceled, and its nodes ended.
    Cancelled,
    /// A user stopped it before.
    Stopped,
    /// Its Kubernetes objects were deleted before, and not by this server.
    Deleted,
}

/// What each node of a task requested.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NodeRequests {
    /// CPUs.
    pub cpus: f64,
    /// Memory, in GiB.
    pub memory_gib: f64,
    /// GPUs or other accelerators.
    pub gpus: u32,
}

/// What a task used, in hours. Sums add up field by field.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Usage {
    /// Time that its nodes ran, all together.
    pub node_hours: f64,
    /// CPUs times time.
    pub cpu_hours: f64,
    /// GiB of memory times time.
    pub memory_gib_hours: f64,
    /// GPUs times time.
    pub gpu_hours: f64,
}

impl AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.node_hours += other.node_hours;
        self.cpu_hours += other.cpu_hours;
        self.memory_gib_hours += other.memory_gib_hours;
        self.gpu_hours += other.gpu_hours;
    }
}

/// What the tasks of a user used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct UserUsage {
    /// Name of the user.
    pub username: String,
    /// Number of tasks.
    pub tasks: u64,
    /// What they used, all together.
    pub usage: Usage,
}

/// What tasks used, by user.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct UsageReport {
    /// Users with a task, by name.
    pub users: Vec<UserUsage>,
}

/// The archived log of one pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PodLogRecord {
    /// Rank of the node.
    pub rank: u32,
    /// Number of the attempt, starting at 1.
    pub attempt: u32,
    /// Number of lines.
    pub lines: u64,
    /// Size, in bytes, including the time of each line.
    pub bytes: u64,
    /// Why a part is missing; null if the log is complete.
    #[schema(required = true)]
    pub lost: Option<String>,
}

/// A task in a list of past and present tasks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HistoryEntry {
    /// ID of the task.
    pub task_id: String,
    /// Name of the task.
    pub name: String,
    /// Name of the user who owns the task.
    pub username: String,
    /// State of the task; once it has ended, the last one.
    pub status: TaskState,
    /// Why the task is pending or has failed: a machine-readable reason.
    #[schema(required = true)]
    pub reason: Option<String>,
    /// Human-readable explanation of `reason`.
    #[schema(required = true)]
    pub message: Option<String>,
    /// Number of nodes.
    pub num_nodes: u32,
    /// Creation time (RFC 3339, UTC).
    #[schema(format = DateTime)]
    pub created_at: String,
    /// When its first container started (RFC 3339, UTC).
    #[schema(required = true, format = DateTime)]
    pub started_at: Option<String>,
    /// When its last container terminated (RFC 3339, UTC).
    #[schema(required = true, format = DateTime)]
    pub finished_at: Option<String>,
    /// Whether the task still exists in Kubernetes, so that it can be stopped.
    pub exists: bool,
}

impl HistoryEntry {
    /// The entry of a task with this status.
    #[must_use]
    pub fn of(task: &TaskStatus, exists: bool) -> Self {
        let metadata = &task.metadata;
        let nodes = || metadata.nodes.iter();
        let starts = metadata
            .attempts
            .iter()
            .filter_map(|attempt| attempt.started_at.clone());
        let starts = starts.chain(nodes().filter_map(|node| node.started_at.clone()));
        let ends = nodes().filter_map(|node| node.finished_at.clone());
        Self {
            task_id: task.task_id.clone(),
            name: task.name.clone(),
            username: task.username.clone(),
            status: task.status,
            reason: task.reason.clone(),
            message: task.message.clone(),
            num_nodes: metadata.num_nodes,
            created_at: task.created_at.clone(),
            // All times have the same format, so they sort as text.
            started_at: starts.min(),
            finished_at: ends.max().filter(|_| task.status.is_final()),
            exists,
        }
    }
}

/// A page of past and present tasks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HistoryPage {
    /// Tasks, newest first.
    pub tasks: Vec<HistoryEntry>,
    /// Pass it as `cursor` to get the next page; null on the last page.
    #[schema(required = true)]
    pub next_cursor: Option<String>,
}
