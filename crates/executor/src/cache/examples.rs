//! Example objects for tests.

use std::sync::Arc;

use jiff::Timestamp;

use super::identity::TaskKey;
use super::job::Job;
use super::object::{Gate, Pod, TaskOwner};
use super::phase::Phase;
use super::snapshot::TaskSnapshot;
use super::store::Cache;
use super::turn::Turn;
use crate::user_key::UserKey;

fn alice() -> UserKey {
    UserKey::from_labels(&[("username".to_owned(), "alice".to_owned())].into()).unwrap()
}

impl Job {
    /// The Job of a node outside of a gang.
    pub fn example(rank: u32, num_nodes: u32) -> Self {
        Self {
            uid: format!("job-{rank}"),
            name: format!("job-{rank}"),
            key: Arc::new(TaskKey {
                id: "abc".into(),
                user: alice(),
                submission: None,
            }),
            task_name: "train".to_owned(),
            username: "alice".to_owned(),
            rank,
            num_nodes,
            created_at: Timestamp::UNIX_EPOCH,
            owned_by: None,
            claims: Vec::new(),
            fingerprint: None,
            pod_submission: None,
            end: None,
            exit_code: None,
            recorded_end: None,
            is_active: false,
            terminating: None,
            version: "1".to_owned(),
            attempt: 1,
            restarts: 0,
            recovery: None,
            max_duration: None,
            provision_timeout: None,
            provision_timed_out: None,
            has_alternatives: false,
            ttl_after_finished: None,
            creation_timestamp: Timestamp::UNIX_EPOCH,
            started_at: None,
            ended_at: None,
            suspended: false,
            queue: None,
            preempted_at: None,
            preemptions: 0,
            gang: None,
            ended_because_of: None,
            cancelled: false,
            group_started_at: None,
            ports: None,
            held: None,
            facts: None,
        }
    }
}

impl TaskOwner {
    /// The owner of a task with two nodes.
    pub fn example() -> Self {
        Self {
            uid: "owner".to_owned(),
            name: "train-abc".to_owned(),
            key: Job::example(0, 2).key,
            task_name: "train".to_owned(),
            creation_timestamp: Timestamp::UNIX_EPOCH,
            version: "1".to_owned(),
            committed: true,
            terminating: false,
            deadline: None,
            fingerprint: None,
            num_nodes: 2,
            turn: Some(Turn::FIRST),
            group: None,
            group_complete: false,
            facts: None,
            files: None,
        }
    }
}

impl Pod {
    /// The pod of [`Job::example`] with the same rank, on a cluster node.
    pub(crate) fn example(rank: u32, phase: Phase) -> Self {
        Self {
            uid: format!("pod-{rank}"),
            name: format!("pod-{rank}"),
            job_uid: format!("job-{rank}"),
            user: alice(),
            submission: None,
            version: "1".to_owned(),
            created_at: Timestamp::UNIX_EPOCH,
            node_name: Some("machine".to_owned()),
            ip: Some(format!("10.0.0.{rank}")),
            phase,
            accepted_at: None,
            has_leftover_containers: false,
            is_ending: false,
            gate: Gate::Closed,
            ready: false,
            terminating: false,
            ended_because_of: None,
        }
    }
}

impl Cache {
    /// Adds a task of one node, or changes it.
    pub(crate) fn set_example(&self, job: Job, pod: Pod) {
        self.apply(|state| {
            state.apply_job(job);
            state.apply_pod(pod);
        });
    }
}

impl TaskSnapshot {
    /// The snapshot of a task; `status` stands for what its status is.
    pub fn example(key: &Arc<TaskKey>, username: &str, status: u64) -> Self {
        Self {
            key: Arc::clone(key),
            name: "train".to_owned(),
            username: username.to_owned(),
            created_at: Timestamp::UNIX_EPOCH,
            creation_timestamp: Timestamp::UNIX_EPOCH,
            state: task::TaskState::Running,
            outcome: None,
            json: status.to_string().into(),
            json_hash: status,
            updated_at: String::new(),
            num_nodes: 1,
            jobs: Vec::new(),
            owned_by: None,
            nodes: Vec::new(),
            recovers: false,
            restart: None,
            terminating: false,
            facts: None,
            is_disowned: false,
        }
    }
}
