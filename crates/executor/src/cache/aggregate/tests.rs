//! How the status of a task follows from its Jobs and pods.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::PodStatus;
use proptest::prelude::*;
use serde_json::{Value, json};
use task::TaskState;
use task::wire::TaskStatus;

use super::super::end_cause::EndCause;
use super::super::job::{Job, JobEnd};
use super::super::object::Pod;
use super::super::phase;
use super::super::reasons::Reason;

fn job(rank: u32, num_nodes: u32, end: Option<JobEnd>) -> Job {
    Job {
        name: format!("train-abc-node-{rank}"),
        end,
        ..Job::example(rank, num_nodes)
    }
}

fn pod(rank: u32, status: Value) -> Pod {
    let status: PodStatus = serde_json::from_value(status).unwrap();
    Pod {
        name: format!("train-abc-node-{rank}-x"),
        node_name: None,
        ip: None,
        ..Pod::example(rank, phase::pod_phase(&status, phase::PodFacts::default()))
    }
}

fn aggregate(jobs: &[Job], pods: &[Pod], warnings: &HashMap<String, Reason>) -> TaskStatus {
    let pods = pods.iter().map(|pod| (pod.job_uid.as_str(), pod)).collect();
    super::status(jobs, &[], &pods, |uid| warnings.get(uid), "default", "now".to_owned())
}

/// State, reason, and message of a task with one node.
fn single(status: Value) -> (TaskState, Option<String>, Option<String>) {
    let status = aggregate(&[job(0, 1, None)], &[pod(0, status)], &HashMap::new());
    (status.status, status.reason, status.message)
}

fn terminated(reason: &str, code: i32) -> Value {
    json!({
        "phase": "Failed",
        "containerStatuses": [{
            "name": "task", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"terminated": {"reason": reason, "exitCode": code}},
        }],
    })
}

fn waiting(reason: &str, message: Option<&str>) -> Value {
    json!({
        "phase": "Pending",
        "containerStatuses": [{
            "name": "task", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"waiting": {"reason": reason, "message": message}},
        }],
    })
}

fn running() -> Value {
    json!({
        "phase": "Running",
        "containerStatuses": [{
            "name": "task", "image": "", "imageID": "", "ready": true, "restartCount": 0,
            "state": {"running": {"startedAt": "2026-11-23T15:30:34Z"}},
        }],
    })
}

#[test]
fn what_keeps_a_task_from_running_is_said_in_the_words_of_kubernetes() {
    let unschedulable = json!({"phase": "Pending", "conditions": [{
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
        "message": "0/1 nodes are available: 1 Insufficient cpu.",
    }]});
    for (status, reason, message) in [
        (
            unschedulable,
            "Unschedulable",
            "0/1 nodes are available: 1 Insufficient cpu.",
        ),
        (
            waiting("ImagePullBackOff", Some("Back-off pulling image")),
            "ImagePullBackOff",
            "Back-off pulling image",
        ),
        (
            waiting("CreateContainerConfigError", Some("no key")),
            "CreateContainerConfigError",
            "no key",
        ),
        (
            waiting("ContainerCreating", None),
            "ContainerCreating",
            "the container is being created",
        ),
        (
            json!({"phase": "Pending"}),
            "Pending",
            "the pod is waiting to be scheduled",
        ),
    ] {
        assert_eq!(
            single(status),
            (TaskState::Pending, Some(reason.to_owned()), Some(message.to_owned()))
        );
    }
}

#[test]
fn why_a_task_failed_is_said() {
    let evicted = json!({"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."});
    let preempted = json!({"phase": "Failed", "conditions": [{
        "type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler", "message": "preempted",
    }]});
    let mut setup = terminated("Error", 3);
    setup["containerStatuses"][0]["state"]["terminated"]["message"] = json!("setup failed with exit code 3\n");
    for (status, reason, message) in [
        (terminated("Error", 3), "Error", "the container exited with code 3"),
        (setup, "Error", "setup failed with exit code 3"),
        (
            terminated("OOMKilled", 137),
            "OOMKilled",
            "the container exceeded its memory limit; increase `memory`",
        ),
        (evicted, "Evicted", "The node was low on resource: memory."),
        (preempted, "PreemptionByScheduler", "preempted"),
        (
            json!({"phase": "Failed", "reason": "DeadlineExceeded"}),
            "DeadlineExceeded",
            "the pod failed: DeadlineExceeded",
        ),
    ] {
        assert_eq!(
            single(status),
            (TaskState::Failed, Some(reason.to_owned()), Some(message.to_owned()))
        );
    }
}

#[test]
fn running_means_that_a_container_runs() {
    assert_eq!(single(running()).0, TaskState::Running);
    assert_eq!(single(json!({"phase": "Running"})).0, TaskState::Pending);
}

#[test]
fn a_warning_says_more_than_that_a_container_is_being_created() {
    let mount = Reason::new("FailedMount", "no such volume");
    let quota = Reason::new("FailedCreate", "exceeded quota");
    let creating = [pod(0, waiting("ContainerCreating", None))];
    let status = aggregate(&[job(0, 1, None)], &creating, &[("pod-0".to_owned(), mount)].into());
    assert_eq!(status.reason.as_deref(), Some("FailedMount"));
    let status = aggregate(&[job(0, 1, None)], &[], &[("job-0".to_owned(), quota)].into());
    assert_eq!(
        (status.status, status.message.as_deref()),
        (TaskState::Pending, Some("exceeded quota"))
    );
}

#[test]
fn a_pod_that_was_deleted_is_said_to_be() {
    let exceeded = JobEnd::Failed(Reason::new(
        "BackoffLimitExceeded",
        "Job has reached the specified backoff limit",
    ));
    let status = aggregate(&[job(0, 1, Some(exceeded))], &[], &HashMap::new());
    assert_eq!(
        (status.status, status.reason.as_deref()),
        (TaskState::Failed, Some("PodDeleted"))
    );
}

#[test]
fn a_pod_that_is_told_to_end_in_the_moment_of_its_success_has_succeeded() {
    let ends = |status: Value| {
        let mut pod = pod(0, status);
        pod.ended_because_of = Some(EndCause::NodeFailed(1));
        let status = aggregate(
            &[job(0, 2, Some(JobEnd::Complete)), job(1, 2, None)],
            &[pod],
            &HashMap::new(),
        );
        let node = &status.metadata.nodes[0];
        (node.status, node.exit_code)
    };
    let success = json!({"terminated": {"exitCode": 0, "startedAt": "2026-11-23T15:30:34Z", "finishedAt": "2026-11-23T15:30:35Z"}});
    let container = json!([{
        "name": "task", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": success,
    }]);
    let mut status = json!({"phase": "Succeeded", "containerStatuses": container});
    assert_eq!(ends(status.clone()), (TaskState::Completed, Some(0)));
    // What the kubelet reports if the deadline fires while the success is on its way.
    status["phase"] = "Failed".into();
    status["reason"] = "DeadlineExceeded".into();
    assert_eq!(ends(status.clone()), (TaskState::Completed, Some(0)));
    status["reason"] = "Evicted".into();
    assert_eq!(ends(status).0, TaskState::Failed, "the cluster ended it");
}

#[test]
fn the_node_is_named_where_there_are_several() {
    let jobs = [job(0, 2, None), job(1, 2, None)];
    let status = aggregate(
        &jobs,
        &[pod(0, running()), pod(1, terminated("Error", 3))],
        &HashMap::new(),
    );
    assert_eq!(
        status.message.as_deref(),
        Some("node 1: the container exited with code 3")
    );
    insta::assert_json_snapshot!(status);
}

#[test]
fn a_node_without_a_job_is_not_forgotten() {
    let status = aggregate(&[job(1, 3, None)], &[pod(1, running())], &HashMap::new());
    let ranks: Vec<u32> = status.metadata.nodes.iter().map(|node| node.rank).collect();
    assert_eq!((ranks, status.metadata.pending_nodes), (vec![0, 1, 2], 2));
}

#[test]
fn a_job_that_was_deleted_fails_the_task_when_the_others_ended_because_of_it() {
    let exceeded = || Some(JobEnd::Failed(Reason::new("DeadlineExceeded", "too long")));
    let other = Job {
        ended_because_of: Some(EndCause::NodeFailed(1)),
        ..job(0, 2, exceeded())
    };
    let status = aggregate(&[other], &[], &HashMap::new());
    assert_eq!(
        (status.status, status.reason.as_deref(), status.message.as_deref()),
        (
            TaskState::Failed,
            Some("JobDeleted"),
            Some("node 1: the Job for this node was deleted")
        )
    );
}

#[test]
fn a_task_without_a_place_says_what_kept_it_from_one() {
    let exceeded = Some(JobEnd::Failed(Reason::new("DeadlineExceeded", "too long")));
    let full = Job {
        provision_timeout: Some(60),
        provision_timed_out: Some("0/1 nodes are available".into()),
        ..job(0, 1, exceeded)
    };
    let status = aggregate(&[full], &[], &HashMap::new());
    assert_eq!(
        (status.reason.as_deref(), status.message.as_deref()),
        (
            Some("ProvisionTimeout"),
            Some("not scheduled within the `provision_timeout` of 60s: 0/1 nodes are available")
        )
    );
}

#[test]
fn a_job_that_waits_in_a_queue_names_it() {
    let queued = Job {
        suspended: true,
        queue: Some("team-a".into()),
        ..job(0, 1, None)
    };
    let status = aggregate(&[queued], &[], &HashMap::new());
    assert_eq!(status.message.as_deref(), Some("waiting in queue `team-a`"));
}

proptest! {
    /// Whatever the nodes do, each is counted once, and the counts determine the state of the task.
    #[test]
    fn every_node_is_counted_once(kinds in prop::collection::vec(0_u8..5, 1..8)) {
        let count = u32::try_from(kinds.len()).unwrap();
        let jobs: Vec<Job> = (0..count).map(|rank| job(rank, count, None)).collect();
        let pods: Vec<Pod> = kinds.iter().zip(0..).filter_map(|(kind, rank)| match kind {
            0 => None,
            1 => Some(pod(rank, json!({"phase": "Pending"}))),
            2 => Some(pod(rank, running())),
            3 => Some(pod(rank, terminated("Error", 1))),
            _ => Some(pod(rank, json!({"phase": "Succeeded"}))),
        }).collect();
        let status = aggregate(&jobs, &pods, &HashMap::new());
        let metadata = &status.metadata;
        let sum = metadata.succeeded_nodes + metadata.failed_nodes + metadata.running_nodes + metadata.pending_nodes;
        prop_assert_eq!(sum, count);
        prop_assert_eq!(status.status == TaskState::Failed, metadata.failed_nodes > 0);
        prop_assert_eq!(status.status == TaskState::Completed, metadata.succeeded_nodes == count);
        prop_assert_eq!(status.reason.is_some() && status.status == TaskState::Completed, false);
    }
}
