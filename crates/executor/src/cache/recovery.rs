//! Decides whether a failed task is retried, and summarizes earlier attempts.

use task::TaskState;
use task::wire::{AttemptStatus, NodeStatus, TaskStatus};

use super::aggregate;
use super::attempts::{Attempts, newest_pods};
use super::job::Job;
use super::object::Pod;
use super::reasons::{DEADLINE_EXCEEDED, NODE_FAILED, PROVISION_TIMEOUT, RECOVERING, deciding_node, is_disruption};

/// A pending retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restart {
    /// Whether the failure counts toward `max_restarts_on_errors`.
    pub counts: bool,
    /// Whether all nodes have finished, so that the next attempt can start.
    pub is_due: bool,
}

/// Whether the task is retried. `jobs` are those of the current attempt.
pub(super) fn restart(status: &TaskStatus, jobs: &[Job]) -> Option<Restart> {
    let job = jobs.first()?;
    // The Jobs of the next attempt are copies of these, so none may be missing.
    let is_complete = jobs.len() >= status.metadata.nodes.len();
    if status.status != TaskState::Failed || !is_complete {
        return None;
    }
    let node = deciding_node(&status.metadata.nodes, TaskState::Failed)?;
    let is_due = status.metadata.nodes.iter().all(|node| node.status.is_final());
    match node.reason.as_deref() {
        // Another attempt would time out as well.
        Some(DEADLINE_EXCEEDED) => return None,
        Some(PROVISION_TIMEOUT) => return job.has_alternatives.then_some(Restart { counts: false, is_due }),
        _ => {}
    }
    let recovery = job.recovery.as_ref()?;
    // One exempt node exempts the whole failure: when a node is evicted or exits with a listed code, its peers fail in
    // the same second because they lost it.
    let spares = |node: &NodeStatus| {
        let code = node.exit_code.and_then(|code| u8::try_from(code).ok());
        node.reason.as_deref().is_some_and(is_disruption)
            || code.is_some_and(|code| recovery.recover_on_exit_codes.contains(&code))
    };
    let failed = status
        .metadata
        .nodes
        .iter()
        .filter(|node| node.status == TaskState::Failed);
    let counts = !failed
        .filter(|node| node.reason.as_deref() != Some(NODE_FAILED))
        .any(spares);
    if counts && job.restarts >= recovery.max_restarts_on_errors {
        return None;
    }
    Some(Restart { counts, is_due })
}

/// The retry of the current attempt, if it can start now.
pub(crate) fn due_restart(jobs: Attempts<'_>, pods: &[Pod]) -> Option<Restart> {
    jobs.current.first()?;
    let newest = newest_pods(pods);
    let status = aggregate::status(jobs.current, jobs.previous(), &newest, |_| None, "", String::new());
    restart(&status, jobs.current).filter(|restart| restart.is_due)
}

/// How a task has ended for good, or `None` if a node has not ended, or the task will be retried.
pub(crate) fn outcome(jobs: Attempts<'_>, pods: &[Pod], is_cancelled: bool) -> Option<TaskState> {
    jobs.current.first()?;
    let to_be_made = to_be_made(jobs, is_cancelled);
    let newest = newest_pods(pods);
    let status = aggregate::status(jobs.current, to_be_made, &newest, |_| None, "", String::new());
    let is_retried = !is_cancelled && restart(&status, jobs.current).is_some();
    outcome_of(status.status, jobs, to_be_made).filter(|_| !is_retried)
}

/// The Jobs of the previous attempt from which missing ones of the current attempt are created. After a cancellation, none
/// are.
pub(super) fn to_be_made(jobs: Attempts<'_>, is_cancelled: bool) -> &[Job] {
    if is_cancelled { &[] } else { jobs.previous() }
}

/// How a task in this state, which is not retried, has ended for good.
pub(super) fn outcome_of(state: TaskState, jobs: Attempts<'_>, to_be_made: &[Job]) -> Option<TaskState> {
    let has_job = |job: &Job| jobs.current.iter().any(|current| current.rank == job.rank);
    if !to_be_made.iter().all(has_job) {
        return None;
    }
    match state {
        TaskState::Completed => Some(TaskState::Completed),
        // The other nodes of a failed task may still be ending.
        TaskState::Failed if jobs.current.iter().all(Job::is_over) => Some(TaskState::Failed),
        TaskState::Failed | TaskState::Pending | TaskState::Running => None,
    }
}

/// Turns the status of a failed task that will be retried into a pending one.
pub(super) fn set_recovering(status: &mut TaskStatus) {
    let next = match status.reason.as_deref() {
        Some(PROVISION_TIMEOUT) => "the next alternative will be tried",
        _ => "will be retried",
    };
    let why = status.message.take().or_else(|| status.reason.take());
    let why = why.unwrap_or_default();
    let attempt = status.metadata.nodes.first().map_or(1, |node| node.attempt);
    status.status = TaskState::Pending;
    status.reason = Some(RECOVERING.to_owned());
    status.message = Some(format!("attempt {attempt} failed and {next}: {why}"));
}

/// The summary of an attempt that was followed by another one.
pub(super) fn attempt_status(status: TaskStatus) -> AttemptStatus {
    let nodes = &status.metadata.nodes;
    let times = |of: fn(&NodeStatus) -> Option<&String>| nodes.iter().filter_map(of).cloned();
    AttemptStatus {
        attempt: nodes.first().map_or(1, |node| node.attempt),
        started_at: times(|node| node.started_at.as_ref()).min(),
        finished_at: times(|node| node.finished_at.as_ref()).max(),
        reason: status.reason,
        message: status.message,
    }
}
