//! From the Jobs and pods of a task to its state: pure functions, called when an event arrives.

use std::collections::HashMap;

use task::State;
use task::status::{NodeStatus, TaskMetadata, TaskStatus};
use task::time::format;

use super::object::{Job, JobEnd, Pod};
use super::phase::{Phase, Reason};
use super::recovery;

/// A node whose container runs, and waits for the others of its task.
const WAITING_FOR_NODES: &str = "WaitingForNodes";

/// A node that was ended because another had failed.
pub(super) const NODE_FAILED: &str = "NodeFailed";

/// Kubernetes' word for a Job whose pod has failed.
const BACKOFF_LIMIT_EXCEEDED: &str = "BackoffLimitExceeded";

/// Kubernetes' word for a pod that ran too long.
pub(super) const DEADLINE_EXCEEDED: &str = "DeadlineExceeded";

/// The status of a task. `jobs` are in rank order and not empty; `warning` gives the last warning about a uid.
pub(super) fn status<'a>(
    jobs: &[Job],
    pods: &HashMap<&str, &Pod>,
    warning: impl Fn(&str) -> Option<&'a Reason>,
    namespace: &str,
    updated_at: String,
) -> TaskStatus {
    let first = &jobs[0];
    let num_nodes = first.num_nodes.max(u32::try_from(jobs.len()).unwrap_or(u32::MAX));
    let mut nodes: Vec<NodeStatus> = jobs
        .iter()
        .map(|job| node(job, pods.get(job.uid.as_str()).copied(), &warning))
        .collect();
    nodes.extend(missing(jobs, num_nodes));
    nodes.sort_by_key(|node| node.rank);
    let count = |state: State| u32::try_from(nodes.iter().filter(|node| node.status == state).count()).unwrap_or(0);
    let counts = [State::Completed, State::Failed, State::Running, State::Pending].map(count);
    let [succeeded, failed, running, pending] = counts;
    let state = overall(succeeded, failed, running, num_nodes);
    let reason = reason(&nodes, state);
    TaskStatus {
        task_id: first.task_id.clone(),
        name: first.task_name.clone(),
        status: state,
        reason: reason.as_ref().map(|reason| reason.reason.clone()),
        message: reason.map(|reason| reason.message),
        created_at: format(first.created_at),
        updated_at,
        username: first.username.clone(),
        metadata: TaskMetadata {
            job_name: first.name.clone(),
            namespace: namespace.to_owned(),
            num_nodes,
            node_jobs: jobs.iter().map(|job| job.name.clone()).collect(),
            succeeded_nodes: succeeded,
            failed_nodes: failed,
            running_nodes: running,
            pending_nodes: pending,
            attempts: Vec::new(),
            nodes,
        },
    }
}

/// The state of all nodes together: one failure fails the task, and only all successes complete it.
fn overall(succeeded: u32, failed: u32, running: u32, num_nodes: u32) -> State {
    if failed > 0 {
        State::Failed
    } else if succeeded == num_nodes {
        State::Completed
    } else if running > 0 || succeeded > 0 {
        State::Running
    } else {
        State::Pending
    }
}

/// The reason of the first node that has one for the state the task is in, naming the node where there are several.
/// A running task whose last nodes wait says what they wait for.
fn reason(nodes: &[NodeStatus], state: State) -> Option<Reason> {
    let wanted = match state {
        State::Failed => State::Failed,
        State::Pending | State::Running => State::Pending,
        State::Completed => return None,
    };
    let node = cause(nodes, wanted)?;
    let message = node.message.clone().unwrap_or_default();
    Some(Reason {
        reason: node.reason.clone()?,
        message: if nodes.len() > 1 {
            format!("node {}: {message}", node.rank)
        } else {
            message
        },
    })
}

/// The node that is the cause of a state; the others may be in it because of that one.
pub(super) fn cause(nodes: &[NodeStatus], state: State) -> Option<&NodeStatus> {
    nodes
        .iter()
        .filter(|node| node.status == state && node.reason.is_some())
        .min_by_key(|node| {
            let follows = matches!(node.reason.as_deref(), Some(WAITING_FOR_NODES | NODE_FAILED));
            // What the cluster did to one node is what the others failed of in the same second.
            let is_own = !node.reason.as_deref().is_some_and(recovery::is_disruption);
            (
                follows,
                is_own,
                node.finished_at.is_none(),
                node.finished_at.clone(),
                node.rank,
            )
        })
}

fn node<'a>(job: &Job, pod: Option<&Pod>, warning: impl Fn(&str) -> Option<&'a Reason>) -> NodeStatus {
    let (state, reason) = match (&job.end, pod.map(|pod| &pod.phase)) {
        _ if job.suspended => (State::Pending, Some(suspended(job))),
        // It goes before it has begun, because its task gives way; the Job says whether that is so.
        (None, Some(Phase::Ended(_)))
            if pod.is_some_and(|pod| pod.terminating && !pod.may_begin) && job.gang.is_some() =>
        {
            (State::Pending, Some(Reason::new("Pending", "the pod is going")))
        }
        (Some(JobEnd::Complete), _) => (State::Completed, None),
        // Deleted while it ran: how its container took that is not why it ended.
        (_, Some(Phase::Ended(end))) if end.state == State::Failed && is_deleted(pod, end.reason.as_ref()) => {
            (State::Failed, Some(because(job, pod, pod_deleted())))
        }
        (_, Some(Phase::Ended(end))) => (end.state, end.reason.clone().map(|reason| because(job, pod, reason))),
        // How its pod ended is about to be seen.
        (Some(JobEnd::Failed(reason)), Some(Phase::Running { .. }))
            if reason.reason == BACKOFF_LIMIT_EXCEEDED && pod.is_some_and(|pod| !pod.terminating) =>
        {
            (State::Running, None)
        }
        (Some(JobEnd::Failed(reason)), _) => (State::Failed, Some(because(job, pod, without_pod(reason, pod)))),
        (None, Some(Phase::Running { .. })) if job.gang.is_some() && !pod.is_some_and(|pod| pod.may_begin) => {
            let waiting = "the container runs, and waits until all nodes do";
            (State::Pending, Some(Reason::new(WAITING_FOR_NODES, waiting)))
        }
        (None, Some(Phase::Running { .. })) => (State::Running, None),
        (None, Some(Phase::Pending(reason))) => (State::Pending, Some(pending(reason.as_ref(), pod, warning))),
        (None, None) => {
            let waiting = || Reason::new("Pending", "Kubernetes has not made the pod yet");
            (State::Pending, Some(warning(&job.uid).cloned().unwrap_or_else(waiting)))
        }
    };
    let (started_at, finished_at, exit_code) = match pod.map(|pod| &pod.phase) {
        Some(Phase::Running { since }) => (*since, None, None),
        Some(Phase::Ended(end)) => (end.started_at, end.finished_at, end.exit_code),
        Some(Phase::Pending(_)) | None => (None, None, None),
    };
    NodeStatus {
        rank: job.rank,
        attempt: job.attempt,
        status: state,
        message: reason.as_ref().map(|reason| reason.message.clone()),
        reason: reason.map(|reason| reason.reason),
        job_name: job.name.clone(),
        pod_name: pod.map(|pod| pod.name.clone()),
        node_name: pod.and_then(|pod| pod.node_name.clone()),
        pod_ip: pod.and_then(|pod| pod.ip.clone()),
        exit_code,
        started_at: started_at.map(format),
        finished_at: finished_at.map(format),
    }
}

fn suspended(job: &Job) -> Reason {
    match job.gave_way {
        Some(_) => Reason::new(
            "GaveWay",
            "a task that was submitted earlier needs the room, and this one had only a part of what it needs; it tries again",
        ),
        None => Reason::new("Suspended", "the Job is suspended"),
    }
}

/// What was ended by us did not fail by itself.
fn because(job: &Job, pod: Option<&Pod>, reason: Reason) -> Reason {
    let of = pod.and_then(|pod| pod.ended_because_of).or(job.ended_because_of);
    match of {
        Some(rank) if rank != job.rank => Reason::new(NODE_FAILED, format!("ended because node {rank} had failed")),
        None if reason.reason == DEADLINE_EXCEEDED && job.max_duration.is_some() => {
            let seconds = job.max_duration.unwrap_or_default();
            Reason::new(
                DEADLINE_EXCEEDED,
                format!("it ran longer than its `max_duration` of {seconds} s"),
            )
        }
        _ => reason,
    }
}

/// A Job whose pod is gone, or is going, says only that it has failed as often as it may.
fn without_pod(reason: &Reason, pod: Option<&Pod>) -> Reason {
    if pod.is_none_or(|pod| pod.terminating) && reason.reason == BACKOFF_LIMIT_EXCEEDED {
        return pod_deleted();
    }
    reason.clone()
}

fn is_deleted(pod: Option<&Pod>, reason: Option<&Reason>) -> bool {
    let is_known = reason.is_some_and(|reason| recovery::is_disruption(&reason.reason));
    pod.is_some_and(|pod| pod.terminating && pod.ended_because_of.is_none()) && !is_known
}

fn pod_deleted() -> Reason {
    Reason::new("PodDeleted", "the pod was deleted before it had ended")
}

/// A warning says more than `ContainerCreating` does: which volume is missing, or why no sandbox can be made.
fn pending<'a>(reason: Option<&Reason>, pod: Option<&Pod>, warning: impl Fn(&str) -> Option<&'a Reason>) -> Reason {
    let warned = pod.and_then(|pod| warning(&pod.uid));
    match (reason, warned) {
        (Some(reason), None) => reason.clone(),
        (Some(reason), Some(_)) if reason.reason != "ContainerCreating" => reason.clone(),
        (_, Some(warned)) => warned.clone(),
        (None, None) => Reason::new("Pending", "the pod waits to be scheduled"),
    }
}

/// Nodes whose Job is not there: it was deleted by hand, or an implementation without an owner is making it.
fn missing(jobs: &[Job], num_nodes: u32) -> Vec<NodeStatus> {
    (0..num_nodes)
        .filter(|rank| jobs.iter().all(|job| job.rank != *rank))
        .map(|rank| NodeStatus {
            rank,
            attempt: jobs[0].attempt,
            status: State::Pending,
            reason: Some("JobMissing".to_owned()),
            message: Some("the Job of this node does not exist".to_owned()),
            job_name: String::new(),
            pod_name: None,
            node_name: None,
            pod_ip: None,
            exit_code: None,
            started_at: None,
            finished_at: None,
        })
        .collect()
}

#[cfg(test)]
mod tests;
