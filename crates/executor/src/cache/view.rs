//! A task as requests see it: aggregated and encoded once, shared by all readers.

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use task::State;

use super::identity::TaskKey;
use super::job::Job;
use super::object::Pod;
use super::phase::Phase;
use super::recovery::Restart;

/// A task at one moment.
#[derive(Debug)]
pub struct View {
    /// Which task it is.
    pub key: Arc<TaskKey>,
    /// The exact name of its user.
    pub username: String,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When Kubernetes has its first Job from.
    pub made_at: Timestamp,
    /// Its state.
    pub state: State,
    /// Its status, as JSON.
    pub json: Bytes,
    /// When it last changed, as in `json`.
    pub(super) updated_at: String,
    /// How many nodes it has; decides whether log lines have a prefix.
    pub num_nodes: u32,
    /// Its Jobs, in rank order: name and uid.
    pub jobs: Vec<(String, String)>,
    /// The object that owns the Jobs: name and uid.
    pub owned_by: Option<(String, String)>,
    /// Its nodes' pods, by attempt and rank.
    pub nodes: Vec<NodePod>,
    /// Whether it may be run again after a failure.
    pub recovers: bool,
    /// That it has failed, and will be.
    pub restart: Option<Restart>,
    /// Whether somebody has deleted it, and something keeps it from going.
    pub terminating: bool,
    /// Whether what owns its Jobs was deleted, so that they have to go as well.
    pub is_disowned: bool,
}

/// Where the log of one node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodePod {
    /// The node.
    pub rank: u32,
    /// The attempt.
    pub attempt: u32,
    /// Its newest pod with a log: name and uid.
    pub pod: Option<(String, String)>,
    /// Whether nothing will be written any more.
    pub ended: bool,
}

impl NodePod {
    pub(super) fn of(job: &Job, pod: Option<&Pod>, is_earlier: bool) -> Self {
        Self {
            rank: job.rank,
            attempt: job.attempt,
            pod: pod
                .filter(|pod| pod.has_log())
                .map(|pod| (pod.name.clone(), pod.uid.clone())),
            ended: match pod {
                Some(pod) => matches!(pod.phase, Phase::Ended(_)),
                None => job.is_over() || is_earlier,
            },
        }
    }
}
