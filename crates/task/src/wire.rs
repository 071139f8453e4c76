//! Response types of the API, which the server writes and the CLI reads.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::text_schema::text_schema;
use crate::volume::AccessMode;

/// The response header that identifies a k8s-cli server. Its value is the version of the server.
pub const SERVER_HEADER: &str = "k8s-cli-server";

/// State of a task or of one of its nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum TaskState {
    /// No container is running yet; `reason` and `message` explain why.
    Pending,
    /// A container is running.
    Running,
    /// All nodes succeeded.
    Completed,
    /// At least one node failed.
    Failed,
}

impl TaskState {
    /// Whether the state can no longer change.
    #[must_use]
    pub fn is_final(self) -> bool {
        match self {
            Self::Completed | Self::Failed => true,
            Self::Pending | Self::Running => false,
        }
    }
}

impl fmt::Display for TaskState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
        })
    }
}

/// Status of a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TaskStatus {
    /// ID of the task.
    pub task_id: String,
    /// Name of the task; `task-{task_id}` if it was submitted without a name.
    pub name: String,
    /// State of all nodes together.
    pub status: TaskState,
    /// Why the task is pending or has failed: a machine-readable reason, as in Kubernetes.
    #[schema(required = true)]
    pub reason: Option<String>,
    /// Human-readable explanation of `reason`, with the node it is about.
    #[schema(required = true)]
    pub message: Option<String>,
    /// Creation time (RFC 3339, UTC).
    #[schema(format = DateTime)]
    pub created_at: String,
    /// When the state was last observed to change (RFC 3339, UTC).
    #[schema(format = DateTime)]
    pub updated_at: String,
    /// Name of the user who owns the task.
    pub username: String,
    /// Kubernetes objects of the task, and the status of its nodes.
    pub metadata: TaskMetadata,
}

/// Kubernetes objects of a task, and the status of its nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TaskMetadata {
    /// Name of the first node's Job.
    pub job_name: String,
    /// Namespace of the task.
    pub namespace: String,
    /// Number of nodes.
    pub num_nodes: u32,
    /// Names of the Jobs, in rank order.
    pub node_jobs: Vec<String>,
    /// Number of nodes that ended with exit code 0.
    pub succeeded_nodes: u32,
    /// Number of failed nodes.
    pub failed_nodes: u32,
    /// Number of running nodes.
    pub running_nodes: u32,
    /// Number of pending nodes.
    pub pending_nodes: u32,
    /// Attempts before the current one, oldest first.
    #[serde(default)]
    #[schema(required = true)]
    pub attempts: Vec<AttemptStatus>,
    /// Status of the nodes, in rank order.
    #[serde(default)]
    #[schema(required = true)]
    pub nodes: Vec<NodeStatus>,
    /// Addresses of the ports of the first node; absent if the task exposes none, or has no address yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub endpoints: Vec<String>,
    /// The group that the task was submitted with; absent if it was submitted by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub group: Option<TaskGroup>,
}

/// The place of a task in its group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TaskGroup {
    /// ID of the group.
    pub group_id: String,
    /// Name of the group.
    pub name: String,
    /// Index of the task, from 0 to `size` - 1.
    pub index: u32,
    /// Number of tasks that the group was submitted with.
    pub size: u32,
    /// How the tasks of the group run.
    pub execution: GroupExecution,
    /// How many tasks of the group run at the same time; null means no limit.
    #[schema(required = true)]
    pub max_parallel: Option<u32>,
}

/// How the tasks of a group run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum GroupExecution {
    /// One after the other; the first failure cancels the tasks after it.
    Serial,
    /// Side by side.
    Parallel,
}

/// A failed attempt that was followed by another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AttemptStatus {
    /// Number of the attempt, starting at 1.
    pub attempt: u32,
    /// Why the attempt failed: a machine-readable reason.
    #[schema(required = true)]
    pub reason: Option<String>,
    /// Human-readable explanation of `reason`, with the node it is about.
    #[schema(required = true)]
    pub message: Option<String>,
    /// When its first container started (RFC 3339, UTC).
    #[schema(required = true, format = DateTime)]
    pub started_at: Option<String>,
    /// When its last container terminated (RFC 3339, UTC).
    #[schema(required = true, format = DateTime)]
    pub finished_at: Option<String>,
}

/// Status of one node of a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeStatus {
    /// Rank of the node, from 0 to `num_nodes` - 1.
    pub rank: u32,
    /// Number of the current attempt, starting at 1.
    #[serde(default = "first_attempt")]
    #[schema(required = true)]
    pub attempt: u32,
    /// State of the node.
    pub status: TaskState,
    /// Why the node is pending or has failed: a machine-readable reason.
    #[schema(required = true)]
    pub reason: Option<String>,
    /// Human-readable explanation of `reason`.
    #[schema(required = true)]
    pub message: Option<String>,
    /// Name of the node's Job.
    pub job_name: String,
    /// Name of the node's pod, once it exists.
    #[schema(required = true)]
    pub pod_name: Option<String>,
    /// Name of the cluster node, once the pod is scheduled.
    #[schema(required = true)]
    pub node_name: Option<String>,
    /// IP address of the pod, once it is assigned.
    #[schema(required = true)]
    pub pod_ip: Option<String>,
    /// Exit code of the container, once it has terminated.
    #[schema(required = true)]
    pub exit_code: Option<i32>,
    /// When the container started (RFC 3339, UTC).
    #[schema(required = true, format = DateTime)]
    pub started_at: Option<String>,
    /// When the container terminated (RFC 3339, UTC).
    #[schema(required = true, format = DateTime)]
    pub finished_at: Option<String>,
}

fn first_attempt() -> u32 {
    1
}

/// Status of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VolumeStatus {
    /// ID of the volume.
    pub volume_id: String,
    /// Name of the volume.
    pub name: String,
    /// Requested size.
    pub size: String,
    /// Storage class, once Kubernetes has chosen one.
    #[schema(required = true)]
    pub storage_class: Option<String>,
    /// Access modes.
    #[schema(value_type = Vec<AccessMode>)]
    pub access_modes: Vec<String>,
    /// `Pending`, `Bound`, `Lost`, or `Terminating` (deleted, but still in use by a task).
    #[schema(value_type = VolumePhase)]
    pub status: String,
    /// Creation time (RFC 3339, UTC).
    #[schema(format = DateTime)]
    pub created_at: String,
    /// Name of the user who owns the volume.
    pub username: String,
    /// Kubernetes object of the volume.
    pub metadata: VolumeMetadata,
}

/// The phase of a volume, in the OpenAPI document only.
enum VolumePhase {}

impl PartialSchema for VolumePhase {
    fn schema() -> RefOr<Schema> {
        let phases = ["Pending", "Bound", "Lost", "Terminating"];
        text_schema("Phase of a volume, as in Kubernetes, or `Terminating`.", &phases)
    }
}

impl ToSchema for VolumePhase {}

/// Kubernetes object of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VolumeMetadata {
    /// Name of the PersistentVolumeClaim.
    pub pvc_name: String,
    /// Namespace of the PersistentVolumeClaim.
    pub namespace: String,
}

/// A cluster node that tasks can run on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClusterNode {
    /// Name of the cluster node.
    pub name: String,
    /// Whether new pods can be scheduled on it.
    pub ready: bool,
    /// Allocatable CPUs, as a Kubernetes quantity.
    pub cpus: String,
    /// Allocatable memory, as a Kubernetes quantity.
    pub memory: String,
    /// Number of allocatable GPUs.
    pub gpus: u32,
}

/// Accelerators of one model in the whole cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GpuModel {
    /// Name of the model, as it can be requested, or of the Kubernetes resource if the cluster nodes are not labeled.
    pub model: String,
    /// Number on ready cluster nodes.
    pub total: u32,
    /// Number that no pod uses.
    pub free: u32,
    /// Largest number that is free on a single cluster node.
    pub largest_free: u32,
    /// Who uses the others, the largest share first.
    pub holders: Vec<GpuHolder>,
}

/// A task, or the pods of other applications together, that use accelerators.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GpuHolder {
    /// User of the task, with characters that Kubernetes labels do not allow replaced; null for other applications.
    #[schema(required)]
    pub username: Option<String>,
    /// ID of the task; null for other applications.
    #[schema(required)]
    pub task_id: Option<String>,
    /// Number of accelerators.
    pub count: u32,
}

/// Versions of the server and of Kubernetes, and where tasks run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServerVersion {
    /// Version of the server.
    pub version: String,
    /// `cluster`, or `embedded` if tasks run on the server's machine.
    pub backend: BackendKind,
    /// Namespace of all tasks and volumes.
    pub namespace: String,
    /// Version of Kubernetes, as of the start of the server.
    pub kubernetes: String,
    /// Identifies the machine of the server since its last boot; empty if unknown.
    #[serde(default)]
    #[schema(required)]
    pub machine: String,
}

/// The Kubernetes behind a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackendKind {
    /// A cluster.
    Cluster,
    /// The embedded engine: tasks run on the server's machine.
    Embedded,
    /// A backend that this version does not know.
    #[serde(untagged)]
    Other(String),
}

impl PartialSchema for BackendKind {
    fn schema() -> RefOr<Schema> {
        text_schema("The Kubernetes behind a server.", &["cluster", "embedded"])
    }
}

impl ToSchema for BackendKind {}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{AttemptStatus, BackendKind, NodeStatus, ServerVersion, TaskMetadata, TaskState, TaskStatus};
    use crate::schema_check::Schemas;

    #[test]
    fn every_field_of_a_status_is_always_there() {
        let text = || "x".to_owned();
        let attempt = |text: Option<String>| AttemptStatus {
            attempt: 1,
            reason: text.clone(),
            message: text.clone(),
            started_at: text.clone(),
            finished_at: text,
        };
        let node = |text: Option<String>| NodeStatus {
            rank: 0,
            attempt: 1,
            status: TaskState::Running,
            reason: text.clone(),
            message: text.clone(),
            job_name: "job".to_owned(),
            pod_name: text.clone(),
            node_name: text.clone(),
            pod_ip: text.clone(),
            exit_code: text.is_some().then_some(1),
            started_at: text.clone(),
            finished_at: text,
        };
        let task = TaskStatus {
            task_id: text(),
            name: text(),
            status: TaskState::Pending,
            reason: None,
            message: Some(text()),
            created_at: text(),
            updated_at: text(),
            username: text(),
            metadata: TaskMetadata {
                job_name: text(),
                namespace: text(),
                num_nodes: 2,
                node_jobs: vec![text()],
                succeeded_nodes: 0,
                failed_nodes: 0,
                running_nodes: 0,
                pending_nodes: 2,
                attempts: vec![attempt(None), attempt(Some(text()))],
                nodes: vec![node(None), node(Some(text()))],
                endpoints: Vec::new(),
                group: None,
            },
        };
        let schemas = Schemas::of::<TaskStatus>();
        let mut json = serde_json::to_value(&task).unwrap();
        assert_eq!(schemas.check(&json), Ok(()));
        for path in ["", "/metadata", "/metadata/attempts/0", "/metadata/nodes/0"] {
            let fields = json.pointer(path).unwrap().as_object().unwrap().clone();
            for key in fields.keys() {
                json.pointer_mut(path)
                    .unwrap()
                    .as_object_mut()
                    .unwrap()
                    .shift_remove(key);
                assert!(schemas.check(&json).is_err(), "{path}/{key} is required");
                *json.pointer_mut(path).unwrap() = fields.clone().into();
            }
        }
    }

    #[test]
    fn a_backend_is_one_of_the_two_that_are_documented() {
        let version = |backend: BackendKind| {
            let text = || "x".to_owned();
            let version = ServerVersion {
                version: text(),
                backend,
                namespace: text(),
                kubernetes: text(),
                machine: text(),
            };
            Schemas::of::<ServerVersion>().check(&json!(version))
        };
        assert_eq!(
            (version(BackendKind::Cluster), version(BackendKind::Embedded)),
            (Ok(()), Ok(()))
        );
        assert!(version(BackendKind::Other("other".to_owned())).is_err());
    }
}
