//! Derives the status of a task from its Jobs and pods, with pure functions.

use std::collections::{HashMap, HashSet};

use task::TaskState;
use task::time::format;
use task::wire::{NodeStatus, TaskMetadata, TaskStatus};

use super::end_cause::EndCause;
use super::job::{Job, JobEnd};
use super::node_end::NodeEnd;
use super::object::Pod;
use super::phase::{Phase, PodEnd};
use super::reasons::{
    BACKOFF_LIMIT_EXCEEDED, CANCELLED, CANCELLING, CONTAINER_CREATING, DEADLINE_EXCEEDED, ERROR, GAVE_WAY, JOB_DELETED,
    JOB_MISSING, NODE_FAILED, PENDING, POD_DELETED, PROVISION_TIMEOUT, Reason, SCHEDULING_GATED, SUSPENDED,
    TERMINATING, WAITING_FOR_GROUP, WAITING_FOR_NODES, deciding_node, is_disruption,
};

/// The status of a task. `jobs` are in rank order and not empty. `to_be_made` are the Jobs of the previous attempt:
/// where `jobs` lacks a rank that they have, the Job will still be created. `warning` looks up the last warning about a
/// uid.
pub(super) fn status<'a>(
    jobs: &[Job],
    previous: &[Job],
    pods: &HashMap<&str, &Pod>,
    warning: impl Fn(&str) -> Option<&'a Reason>,
    namespace: &str,
    updated_at: String,
) -> TaskStatus {
    let first = &jobs[0];
    let num_nodes = first.num_nodes.max(u32::try_from(jobs.len()).unwrap_or(u32::MAX));
    let mut nodes: Vec<NodeStatus> = jobs
        .iter()
        .map(|job| node_status(job, pods.get(job.uid.as_str()).copied(), &warning))
        .collect();
    if nodes.len() < num_nodes as usize {
        nodes.extend(missing_nodes(jobs, previous, num_nodes));
        nodes.sort_by_key(|node| node.rank);
    }
    let count = |state: TaskState| u32::try_from(nodes.iter().filter(|node| node.status == state).count()).unwrap_or(0);
    let counts = [
        TaskState::Completed,
        TaskState::Failed,
        TaskState::Running,
        TaskState::Pending,
    ]
    .map(count);
    let [succeeded, failed, running, pending] = counts;
    let state = task_state(succeeded, failed, running, num_nodes);
    let reason = task_reason(&nodes, state);
    TaskStatus {
        task_id: first.key.id.to_string(),
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
            group: None,
            endpoints: Vec::new(),
        },
    }
}

/// One failed node fails the task; only when all nodes have completed is the task completed.
fn task_state(succeeded: u32, failed: u32, running: u32, num_nodes: u32) -> TaskState {
    if failed > 0 {
        TaskState::Failed
    } else if succeeded == num_nodes {
        TaskState::Completed
    } else if running > 0 || succeeded > 0 {
        TaskState::Running
    } else {
        TaskState::Pending
    }
}

/// The reason of the node that caused the state of the task, prefixed with the node if there are several. A running
/// task whose last nodes are pending shows what those nodes wait for.
fn task_reason(nodes: &[NodeStatus], state: TaskState) -> Option<Reason> {
    let wanted = match state {
        TaskState::Failed => TaskState::Failed,
        TaskState::Pending | TaskState::Running => TaskState::Pending,
        TaskState::Completed => return None,
    };
    let node = deciding_node(nodes, wanted)?;
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

fn node_status<'a>(job: &Job, pod: Option<&Pod>, warning: impl Fn(&str) -> Option<&'a Reason>) -> NodeStatus {
    let (state, reason) = node_state(job, pod, warning);
    let (started_at, finished_at, exit_code) = match (recorded_end(job), pod.map(|pod| &pod.phase)) {
        (Some(end), _) => (end.started_at, end.finished_at, end.exit_code),
        (None, Some(Phase::Running { since })) => (*since, None, None),
        (None, Some(Phase::Ended(end))) => (end.started_at, end.finished_at, end.exit_code),
        (None, Some(Phase::Pending(_)) | None) => (None, None, None),
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

fn node_state<'a>(
    job: &Job,
    pod: Option<&Pod>,
    warning: impl Fn(&str) -> Option<&'a Reason>,
) -> (TaskState, Option<Reason>) {
    if let Some(end) = recorded_end(job) {
        return (end.state, end.reason());
    }
    if job.is_suspended() {
        return (TaskState::Pending, Some(suspended_reason(job)));
    }
    if job.end.is_none() && job.suspended && job.is_over() {
        let suspended = Reason::new(SUSPENDED, "the Job was suspended when the task ended");
        return (TaskState::Failed, Some(with_cause(job, pod, suspended)));
    }
    if has_completed(job, pod) {
        return (TaskState::Completed, None);
    }
    if let (None, Some(code)) = (pod, job.exit_code) {
        return exited_state(job, code);
    }
    match (pod.map(|pod| &pod.phase), &job.end) {
        (Some(Phase::Ended(end)), _) => ended_state(job, pod, end),
        // The Job controller saw the failure first. The pod's own status follows shortly and says more.
        (Some(Phase::Running { .. }), Some(JobEnd::Failed(reason)))
            if reason.reason == BACKOFF_LIMIT_EXCEEDED && pod.is_some_and(|pod| !pod.terminating) =>
        {
            (TaskState::Running, None)
        }
        (_, Some(JobEnd::Failed(reason))) => (
            TaskState::Failed,
            Some(with_cause(job, pod, failed_without_pod(reason, pod))),
        ),
        (Some(Phase::Running { .. }), _) => running_state(job, pod),
        (Some(Phase::Pending(reason)), _) => {
            let queue = job.queue.as_deref().filter(|_| pod.is_some_and(Pod::is_gated));
            let queued = queue.map(|queue| queued_reason(SCHEDULING_GATED, queue));
            let reason = queued.unwrap_or_else(|| pending_reason(reason.as_ref(), pod, warning));
            (TaskState::Pending, Some(reason))
        }
        (None, _) => {
            let waiting = || Reason::new(PENDING, "waiting for Kubernetes to create the pod");
            (
                TaskState::Pending,
                Some(warning(&job.uid).cloned().unwrap_or_else(waiting)),
            )
        }
    }
}

/// How the node has ended according to the record on its Job, whatever became of its pod.
fn recorded_end(job: &Job) -> Option<&NodeEnd> {
    job.recorded_end.as_deref().filter(|_| job.end.is_some())
}

/// How a node has ended that did not complete, if only its pod says so. A pod that was deleted before its end was seen has
/// nothing more to say than the Job.
pub(crate) fn unrecorded_end(job: &Job, pod: Option<&Pod>) -> Option<NodeEnd> {
    let pod = pod?;
    let Phase::Ended(end) = &pod.phase else { return None };
    if job.end.is_none() || job.recorded_end.is_some() || has_completed(job, Some(pod)) {
        return None;
    }
    let (state, reason) = node_state(job, Some(pod), |_| None);
    let reason = reason.map(|Reason { reason, message }| (reason, message));
    let (reason, message) = reason.unzip();
    state.is_final().then_some(NodeEnd {
        state,
        reason,
        message,
        exit_code: end.exit_code,
        started_at: end.started_at,
        finished_at: end.finished_at,
    })
}

/// Whether a node completed. The Job's `Complete` condition decides, because its controller has counted the pod's
/// success: if the deadline fires at the same moment, the kubelet still overwrites the pod's status with a failure. An
/// evicted pod whose container handles SIGTERM and exits with 0 also completes its Job, but has not finished its work.
pub(crate) fn has_completed(job: &Job, pod: Option<&Pod>) -> bool {
    let is_disrupted = |pod: &Pod| match &pod.phase {
        Phase::Ended(end) => end.reason.as_ref().is_some_and(|reason| is_disruption(&reason.reason)),
        Phase::Pending(_) | Phase::Running { .. } => false,
    };
    job.end == Some(JobEnd::Complete) && job.recorded_end.is_none() && !pod.is_some_and(is_disrupted)
}

/// A node whose pod is gone; its exit code was recorded before the pod's other containers were ended.
fn exited_state(job: &Job, code: i32) -> (TaskState, Option<Reason>) {
    match code {
        0 => (TaskState::Completed, None),
        code => {
            let reason = Reason::new(ERROR, format!("the container exited with code {code}"));
            (TaskState::Failed, Some(with_cause(job, None, reason)))
        }
    }
}

/// Shows that the task was canceled, unless all nodes had completed.
pub(super) fn set_cancelled(status: &mut TaskStatus) {
    let (reason, message) = match status.status {
        TaskState::Completed => return,
        TaskState::Failed => (CANCELLED, "the task was canceled"),
        TaskState::Pending | TaskState::Running => (CANCELLING, "the task is being canceled"),
    };
    status.reason = Some(reason.to_owned());
    status.message = Some(message.to_owned());
    // Their Jobs were not created anymore.
    let deleted = |node: &&mut NodeStatus| node.reason.as_deref() == Some(JOB_DELETED);
    for node in status.metadata.nodes.iter_mut().filter(deleted) {
        node.reason = Some(CANCELLED.to_owned());
        node.message = Some("the task was canceled before this node started".to_owned());
    }
}

/// Shows what a task that its group has not started waits for.
pub(super) fn set_held(status: &mut TaskStatus, waits_for: &str) {
    let why = || (Some(WAITING_FOR_GROUP.to_owned()), Some(waits_for.to_owned()));
    (status.reason, status.message) = why();
    for node in &mut status.metadata.nodes {
        (node.reason, node.message) = why();
    }
}

/// Replaces "waiting for the other nodes" with what the server failed to do.
pub(super) fn set_controller_error(status: &mut TaskStatus, controller_error: &str) {
    if status.reason.as_deref() == Some(WAITING_FOR_NODES) {
        status.message = Some(format!("the nodes cannot start: {controller_error}"));
    }
}

/// Marks a deleted task as terminating and names the finalizers that hold it.
pub(super) fn set_terminating(status: &mut TaskStatus, jobs: &[Job]) {
    let held = jobs
        .iter()
        .find_map(|job| Some((&job.name, job.terminating.as_deref()?)));
    let why = match held {
        Some((name, finalizers)) if !finalizers.is_empty() => {
            format!("; Job `{name}` is waiting for finalizer `{finalizers}`")
        }
        _ => String::new(),
    };
    status.reason = Some(TERMINATING.to_owned());
    status.message = Some(format!("the task is being stopped{why}"));
}

/// A node whose container has ended or never started.
fn ended_state(job: &Job, pod: Option<&Pod>, end: &PodEnd) -> (TaskState, Option<Reason>) {
    let has_not_started = pod.is_some_and(|pod| pod.terminating && !pod.may_start());
    if job.end.is_none() && job.gang.is_some() && has_not_started {
        // A pod deleted before it began usually belongs to a preempted task. Whether it does is known once the Job's
        // own status arrives.
        return (TaskState::Pending, Some(Reason::new(PENDING, "the pod is terminating")));
    }
    // How the container reacted to the deletion is not why it ended.
    let reason = if end.state == TaskState::Failed && is_deleted(pod, end.reason.as_ref()) {
        Some(pod_deleted())
    } else {
        end.reason.clone()
    };
    (end.state, reason.map(|reason| with_cause(job, pod, reason)))
}

fn running_state(job: &Job, pod: Option<&Pod>) -> (TaskState, Option<Reason>) {
    if job.gang.is_some() && !pod.is_some_and(|pod| pod.may_start()) {
        let waiting = "the container is running and waiting for the other nodes to start";
        return (TaskState::Pending, Some(Reason::new(WAITING_FOR_NODES, waiting)));
    }
    (TaskState::Running, None)
}

fn suspended_reason(job: &Job) -> Reason {
    match (job.preempted_at, &job.queue) {
        (Some(_), _) => Reason::new(
            GAVE_WAY,
            "released its resources to an earlier task because not all nodes could be scheduled; retrying",
        ),
        (None, Some(queue)) => queued_reason(SUSPENDED, queue),
        (None, None) if job.held.is_some() => Reason::new(PENDING, "the Job is starting"),
        (None, None) => Reason::new(SUSPENDED, "the Job is suspended"),
    }
}

fn queued_reason(reason: &str, queue: &str) -> Reason {
    Reason::new(reason, format!("waiting in queue `{queue}`"))
}

/// Replaces the reason of a node that this server ended: Kubernetes only reports `DeadlineExceeded`, because nodes are
/// ended with a deadline.
fn with_cause(job: &Job, pod: Option<&Pod>, reason: Reason) -> Reason {
    if let (Some(why), Some(seconds)) = (&job.provision_timed_out, job.provision_timeout) {
        return Reason::new(
            PROVISION_TIMEOUT,
            format!("not scheduled within the `provision_timeout` of {seconds}s: {why}"),
        );
    }
    let of = pod.and_then(|pod| pod.ended_because_of).or(job.ended_because_of);
    match of {
        Some(EndCause::Cancelled) => Reason::new(CANCELLED, "terminated because the task was canceled"),
        Some(EndCause::NodeFailed(rank)) if rank != job.rank => {
            Reason::new(NODE_FAILED, format!("terminated because node {rank} failed"))
        }
        None if reason.reason == DEADLINE_EXCEEDED => match job.max_duration {
            Some(seconds) => Reason::new(DEADLINE_EXCEEDED, format!("exceeded the `max_duration` of {seconds}s")),
            None => reason,
        },
        _ => reason,
    }
}

/// A Job whose pod was deleted only reports that its backoff limit is reached.
fn failed_without_pod(reason: &Reason, pod: Option<&Pod>) -> Reason {
    if pod.is_none_or(|pod| pod.terminating) && reason.reason == BACKOFF_LIMIT_EXCEEDED {
        return pod_deleted();
    }
    reason.clone()
}

fn is_deleted(pod: Option<&Pod>, reason: Option<&Reason>) -> bool {
    let is_known = reason.is_some_and(|reason| is_disruption(&reason.reason));
    pod.is_some_and(|pod| pod.terminating && pod.ended_because_of.is_none()) && !is_known
}

fn pod_deleted() -> Reason {
    Reason::new(POD_DELETED, "the pod was deleted before it finished")
}

/// A warning says more than `ContainerCreating`, e.g., which volume is missing or why the sandbox fails.
fn pending_reason<'a>(
    reason: Option<&Reason>,
    pod: Option<&Pod>,
    warning: impl Fn(&str) -> Option<&'a Reason>,
) -> Reason {
    let warned = pod.and_then(|pod| warning(&pod.uid));
    match (reason, warned) {
        (Some(reason), None) => reason.clone(),
        (Some(reason), Some(_)) if reason.reason != CONTAINER_CREATING => reason.clone(),
        (_, Some(warned)) => warned.clone(),
        (None, None) => Reason::new(PENDING, "the pod is waiting to be scheduled"),
    }
}

/// Nodes without a Job. In a task that was created completely, somebody deleted the Job, and the other nodes end
/// because of it. The Python implementation creates Jobs without an owner, and may still be creating this one.
fn missing_nodes(jobs: &[Job], previous: &[Job], num_nodes: u32) -> Vec<NodeStatus> {
    let with_job: HashSet<u32> = jobs.iter().map(|job| job.rank).collect();
    let all_ended = jobs.iter().all(|job| job.owned_by.is_some() && job.is_over());
    let is_deleted = |rank: u32| {
        let will_be_created = previous.iter().any(|job| job.rank == rank);
        !will_be_created
            && (all_ended
                || jobs
                    .iter()
                    .any(|job| job.ended_because_of == Some(EndCause::NodeFailed(rank))))
    };
    (0..num_nodes)
        .filter(|rank| !with_job.contains(rank))
        .map(|rank| {
            let (status, reason, message) = if is_deleted(rank) {
                (TaskState::Failed, JOB_DELETED, "the Job for this node was deleted")
            } else {
                (TaskState::Pending, JOB_MISSING, "the Job for this node does not exist")
            };
            NodeStatus {
                rank,
                attempt: jobs[0].attempt,
                status,
                reason: Some(reason.to_owned()),
                message: Some(message.to_owned()),
                job_name: String::new(),
                pod_name: None,
                node_name: None,
                pod_ip: None,
                exit_code: None,
                started_at: None,
                finished_at: None,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests;
