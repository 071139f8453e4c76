//! A snapshot of a task for requests: aggregated and encoded once, and shared by all readers.

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use task::TaskState;

use super::identity::TaskKey;
use super::job::Job;
use super::object::Pod;
use super::phase::Phase;
use super::record_facts::RecordFacts;
use super::recovery::Restart;
use crate::kubernetes::ObjectRef;

/// A snapshot of a task.
#[derive(Debug)]
pub struct TaskSnapshot {
    /// Identifies the task.
    pub key: Arc<TaskKey>,
    /// The name of the task.
    pub name: String,
    /// The exact name of the user.
    pub username: String,
    /// When the task was submitted.
    pub created_at: Timestamp,
    /// When Kubernetes created the owner or the first Job.
    pub creation_timestamp: Timestamp,
    /// The state of the task.
    pub state: TaskState,
    /// How the task has ended for good, if it has.
    pub outcome: Option<TaskState>,
    /// The status of the task as JSON.
    pub json: Bytes,
    /// A hash of `json`.
    pub json_hash: u64,
    /// When the status last changed, as in `json`.
    pub(super) updated_at: String,
    /// The number of nodes. Log lines have a prefix if there are several.
    pub num_nodes: u32,
    /// The Jobs, by attempt and rank.
    pub jobs: Vec<ObjectRef>,
    /// The owner of the Jobs.
    pub owned_by: Option<ObjectRef>,
    /// The pods of the nodes, by attempt and rank.
    pub nodes: Vec<NodePod>,
    /// Whether the task may be retried after a failure.
    pub recovers: bool,
    /// Set if the task has failed and will be retried.
    pub restart: Option<Restart>,
    /// Whether the task was deleted but finalizers still hold it.
    pub terminating: bool,
    /// What its record needs besides the status.
    pub facts: Option<Arc<RecordFacts>>,
    /// Whether the owner was deleted, so that the Jobs must be deleted as well.
    pub is_disowned: bool,
}

/// Where to find the log of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodePod {
    /// The rank of the node.
    pub rank: u32,
    /// The attempt.
    pub attempt: u32,
    /// Its newest pod, if that can have a log.
    pub pod: Option<ObjectRef>,
    /// When that pod was created, in milliseconds since 1970; 0 without a pod.
    pub pod_created_at: i64,
    /// Whether the log is complete.
    pub ended: bool,
}

impl NodePod {
    pub(super) fn of(job: &Job, pod: Option<&Pod>, is_earlier: bool) -> Self {
        let with_log = pod.filter(|pod| pod.has_log());
        Self {
            rank: job.rank,
            attempt: job.attempt,
            pod: with_log.map(Pod::object_ref),
            pod_created_at: with_log.map_or(0, |pod| pod.created_at.as_millisecond()),
            ended: match pod {
                Some(pod) => matches!(pod.phase, Phase::Ended(_)),
                None => job.is_over() || is_earlier,
            },
        }
    }
}
