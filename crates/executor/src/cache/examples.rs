//! A Job and a pod to begin a test with.

use jiff::Timestamp;

use super::{Job, Phase, Pod};
use crate::labels::Owner;

impl Job {
    /// The Job of a node that does not start together with others.
    pub fn example(rank: u32, num_nodes: u32) -> Self {
        Self {
            uid: format!("job-{rank}"),
            name: format!("job-{rank}"),
            task_id: "abc".to_owned(),
            task_name: "train".to_owned(),
            owner: Owner::from_labels(&[("username".to_owned(), "alice".to_owned())].into()).unwrap(),
            username: "alice".to_owned(),
            rank,
            num_nodes,
            created_at: Timestamp::UNIX_EPOCH,
            owned_by: None,
            claims: Vec::new(),
            submission: None,
            fingerprint: None,
            end: None,
            attempt: 1,
            restarts: 0,
            recovery: None,
            max_duration: None,
            provision_timeout: None,
            provision_timed_out: None,
            ttl_after_finished: None,
            made_at: Timestamp::UNIX_EPOCH,
            started_at: None,
            ended_at: None,
            suspended: false,
            queue: None,
            gave_way_at: None,
            gave_way: 0,
            gang: None,
            ended_because_of: None,
        }
    }
}

impl Pod {
    /// Its pod, on a machine.
    pub fn example(rank: u32, phase: Phase) -> Self {
        Self {
            uid: format!("pod-{rank}"),
            name: format!("pod-{rank}"),
            task_id: "abc".to_owned(),
            job_uid: Some(format!("job-{rank}")),
            created_at: Timestamp::UNIX_EPOCH,
            node_name: Some("machine".to_owned()),
            ip: Some(format!("10.0.0.{rank}")),
            phase,
            accepted_at: None,
            may_begin: false,
            may_run: false,
            ready: false,
            terminating: false,
            ended_because_of: None,
        }
    }
}
