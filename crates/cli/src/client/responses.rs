//! Response bodies of the server.

use serde::Deserialize;
use serde_json::Value;
use task::wire::{ClusterNode, GpuModel};

/// Response to `POST /tasks/submit`.
#[derive(Debug, Deserialize)]
pub(crate) struct SubmitResponse {
    pub task_id: String,
}

/// Response to `POST /groups/submit`.
#[derive(Debug, Deserialize)]
pub(crate) struct GroupSubmitResponse {
    pub group_id: String,
    /// In the order of the group.
    pub task_ids: Vec<String>,
}

/// Response to `POST /tasks/submit?dry_run=true`.
#[derive(Debug, Deserialize)]
pub(crate) struct DryRunResponse {
    /// The Kubernetes objects that a real submit would create.
    pub manifests: Vec<Value>,
}

/// Response to `POST /tasks/stop`.
#[derive(Debug, Deserialize)]
pub(crate) struct StopAllResponse {
    /// Number of stopped tasks.
    pub count: u64,
}

/// Response to `POST /tasks/cancel`.
#[derive(Debug, Deserialize)]
pub(crate) struct CancelAllResponse {
    /// Number of canceled tasks.
    pub count: u64,
}

/// Response to `POST /volumes/create`.
#[derive(Debug, Deserialize)]
pub(crate) struct CreateVolumeResponse {
    pub volume_id: String,
}

/// Response to stopping or canceling one task, or to deleting one volume.
#[derive(Debug, Deserialize)]
pub(crate) struct RemoveResponse {
    pub message: String,
}

/// Response to `GET /files`.
#[derive(Debug, Deserialize)]
pub(crate) struct FileLimitsResponse {
    pub limits: FileLimits,
}

/// The limits of a file set.
#[derive(Debug, Deserialize)]
pub(crate) struct FileLimits {
    pub max_entries: usize,
    pub max_bytes: u64,
    pub max_manifest_bytes: usize,
    /// The limit of what tasks take along, compressed. None if there is none, or the server is older.
    #[serde(default)]
    pub max_packed_bytes: Option<u64>,
}

/// Response to `PUT /files/{file_set_id}`.
#[derive(Debug, Deserialize)]
pub(crate) struct FilesUploadResponse {
    /// The contents to send; none if the file set is stored.
    pub missing: Vec<String>,
}

/// Response to `GET /tasks/{task_id}/outputs`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct OutputsResponse {
    /// The ID of the file set with what the task has kept.
    pub files: String,
    /// The number of files, folders, and links.
    pub entries: u64,
    pub bytes: u64,
}

/// Response to `GET /nodes`: the cluster nodes that tasks can run on.
#[derive(Debug, Deserialize)]
pub(crate) struct NodesResponse {
    /// In no particular order.
    pub nodes: Vec<ClusterNode>,
}

/// Response to `GET /gpus`.
#[derive(Debug, Deserialize)]
pub(crate) struct GpusResponse {
    /// In the order of the models.
    pub gpus: Vec<GpuModel>,
}
