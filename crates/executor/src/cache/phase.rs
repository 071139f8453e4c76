//! From the status that the kubelet and the scheduler write to one of a few phases, with its reason.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, PodCondition, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use task::State;

use super::reasons::{DEADLINE_EXCEEDED, POD_DELETED};
use crate::labels;

/// Why something is as it is: a word of Kubernetes and a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// Such as `Unschedulable` or `OOMKilled`.
    pub reason: String,
    /// For a person.
    pub message: String,
}

impl Reason {
    pub fn new(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            message: message.into(),
        }
    }
}

/// Where a pod stands.
#[derive(Debug, Clone, PartialEq)]
pub enum Phase {
    Pending(Option<Reason>),
    Running { since: Option<Timestamp> },
    Ended(PodEnd),
}

/// How a pod ended.
#[derive(Debug, Clone, PartialEq)]
pub struct PodEnd {
    pub state: State,
    pub reason: Option<Reason>,
    pub exit_code: Option<i32>,
    /// Whether its container was ever started: whether it can have a log.
    pub has_run: bool,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
}

/// What a pod's metadata and specification say that decides what its status means.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Circumstances {
    /// Its `activeDeadlineSeconds`.
    pub deadline_seconds: Option<i64>,
    /// When somebody asked for its deletion.
    pub deleted_at: Option<Timestamp>,
    /// Whether we ended it because other containers went on when ours had ended.
    pub is_outlived: bool,
}

/// The phase of a pod. What counts is the container that runs the task: an admission webhook may have put others beside it,
/// and Kubernetes' own phase is that of all of them together. `Running` means that the container runs.
pub(super) fn of(status: &PodStatus, circumstances: Circumstances) -> Phase {
    let container = container(status);
    let ended = container.and_then(|container| container.state.as_ref()?.terminated.as_ref());
    match (status.phase.as_deref(), ended) {
        (Some("Succeeded" | "Failed"), _) => Phase::Ended(end(status, ended, circumstances)),
        // Others go on beside it, perhaps for ever.
        (Some("Running"), Some(_)) if is_outlived(status) => Phase::Ended(end(status, ended, circumstances)),
        // The kubelet is about to say how the pod ended, which is more than how its container did.
        (Some("Running"), Some(ended)) => Phase::Running {
            since: ended.started_at.as_ref().map(|time| time.0),
        },
        (Some("Running"), None) => match container.and_then(|container| container.state.as_ref()?.running.as_ref()) {
            Some(running) => Phase::Running {
                since: running.started_at.as_ref().map(|time| time.0),
            },
            None => Phase::Pending(waiting(status)),
        },
        _ => Phase::Pending(unscheduled(status).or_else(|| waiting(status))),
    }
}

/// The container that runs the task. The Python implementation has only one, with a name of its own.
fn container(status: &PodStatus) -> Option<&ContainerStatus> {
    let containers = status.container_statuses.as_deref().unwrap_or_default();
    let ours = containers.iter().find(|container| container.name == labels::CONTAINER);
    ours.or_else(|| containers.first().filter(|_| containers.len() == 1))
}

/// Whether other containers go on after the one that runs the task has ended. Sidecars of Kubernetes' own kind, which are init
/// containers, do not count: the kubelet ends them.
pub(super) fn is_outlived(status: &PodStatus) -> bool {
    let state = |container: &'_ ContainerStatus| container.state.clone().unwrap_or_default();
    let has_ended = container(status).is_some_and(|container| state(container).terminated.is_some());
    let mut others = status.container_statuses.iter().flatten();
    has_ended && status.phase.as_deref() == Some("Running") && others.any(|other| state(other).running.is_some())
}

/// Whether the kubelet says that the container that runs the task is ready. The pod is not before all containers are.
pub(super) fn is_ready(status: &PodStatus) -> bool {
    container(status).is_some_and(|container| container.ready)
}

fn end(status: &PodStatus, ended: Option<&ContainerStateTerminated>, circumstances: Circumstances) -> PodEnd {
    let reason = failure(status, ended, circumstances);
    let time = |time: Option<&Time>| time.map(|time| time.0);
    PodEnd {
        state: if reason.is_some() {
            State::Failed
        } else {
            State::Completed
        },
        reason,
        exit_code: ended.map(|ended| ended.exit_code),
        has_run: ended.is_some_and(|ended| ended.started_at.is_some() || ended.container_id.is_some()),
        started_at: ended.and_then(|ended| time(ended.started_at.as_ref())),
        finished_at: ended.and_then(|ended| time(ended.finished_at.as_ref())),
    }
}

/// Why a pod failed; `None` when it did not. The strongest reason first: what happened to the pod, then to its container.
fn failure(
    status: &PodStatus,
    ended: Option<&ContainerStateTerminated>,
    circumstances: Circumstances,
) -> Option<Reason> {
    let has_succeeded = match (status.phase.as_deref(), ended) {
        (Some("Succeeded"), _) => true,
        // The pod may have failed because another container did.
        (_, Some(ended)) => ended.exit_code == 0 && (status.reason.is_none() || circumstances.is_outlived),
        (_, None) => false,
    };
    // A task that was told to end and does so with exit code 0 has not done its work.
    if let Some(reason) = disruption(status, ended, circumstances) {
        let ended_before = has_succeeded && !ended.is_some_and(|ended| has_ended_since(ended, reason.since));
        if !ended_before {
            return Some(reason.reason);
        }
    }
    if has_succeeded {
        return None;
    }
    if let Some(reason) = status.reason.as_ref().filter(|_| !circumstances.is_outlived) {
        let message = status
            .message
            .clone()
            .unwrap_or_else(|| format!("the pod failed: {reason}"));
        return Some(Reason::new(reason.clone(), message));
    }
    let Some(ended) = ended else {
        return Some(never_started(status));
    };
    Some(overdue(status, ended, circumstances).unwrap_or_else(|| exited(ended)))
}

/// Something that ended a pod from outside, and since when.
struct Disruption {
    since: Option<Timestamp>,
    reason: Reason,
}

fn disruption(
    status: &PodStatus,
    ended: Option<&ContainerStateTerminated>,
    circumstances: Circumstances,
) -> Option<Disruption> {
    if let Some(condition) = condition(status, "DisruptionTarget", "True") {
        let message = || "the pod was ended by the cluster".to_owned();
        return Some(Disruption {
            since: condition.last_transition_time.as_ref().map(|time| time.0),
            reason: Reason::new(
                condition
                    .reason
                    .clone()
                    .unwrap_or_else(|| "DisruptionTarget".to_owned()),
                condition.message.clone().unwrap_or_else(message),
            ),
        });
    }
    // Of a failure there is more to say, also when the pod was deleted meanwhile.
    let deleted_at = circumstances.deleted_at?;
    let has_succeeded = ended.is_some_and(|ended| ended.exit_code == 0);
    has_succeeded.then(|| Disruption {
        since: Some(deleted_at),
        reason: Reason::new(POD_DELETED, "the pod was deleted before it had ended"),
    })
}

/// Kubernetes' times are cut to whole seconds, so that the same second counts as later.
fn has_ended_since(ended: &ContainerStateTerminated, time: Option<Timestamp>) -> bool {
    let finished_at = ended.finished_at.as_ref().map(|time| time.0);
    finished_at
        .zip(time)
        .is_none_or(|(finished_at, time)| finished_at >= time)
}

/// That the container ran into the pod's deadline: said by the pod only when its other containers have ended, too.
fn overdue(status: &PodStatus, ended: &ContainerStateTerminated, circumstances: Circumstances) -> Option<Reason> {
    if circumstances.is_outlived {
        return None;
    }
    let deadline = SignedDuration::from_secs(circumstances.deadline_seconds?);
    let due = status.start_time.as_ref()?.0.checked_add(deadline).ok()?;
    has_ended_since(ended, Some(due))
        .then(|| Reason::new(DEADLINE_EXCEEDED, "the pod was active longer than its deadline"))
}

/// What kept the container from ever starting.
fn never_started(status: &PodStatus) -> Reason {
    let said = status.message.clone().map(|message| Reason::new("Failed", message));
    let failed = || Reason::new("Failed", "the pod failed before its container was started");
    said.or_else(|| initializing(status)).unwrap_or_else(failed)
}

fn exited(ended: &ContainerStateTerminated) -> Reason {
    let reason = ended.reason.clone().unwrap_or_else(|| "Error".to_owned());
    let said = ended
        .message
        .as_deref()
        .map(str::trim)
        .filter(|message| !message.is_empty());
    let message = match (said, reason.as_str()) {
        (Some(message), _) => message.to_owned(),
        (None, "OOMKilled") => "the container needed more memory than it may have; ask for more `memory`".to_owned(),
        (None, _) => match ended.signal {
            Some(signal) if signal != 0 => format!("the container was ended by signal {signal}"),
            _ => format!("the container ended with exit code {}", ended.exit_code),
        },
    };
    Reason::new(reason, message)
}

fn unscheduled(status: &PodStatus) -> Option<Reason> {
    let condition = condition(status, "PodScheduled", "False")?;
    Some(Reason::new(
        condition.reason.clone().unwrap_or_else(|| "Unschedulable".to_owned()),
        condition.message.clone().unwrap_or_default(),
    ))
}

/// What a pod waits for: its own container, or one that has to come to an end before it.
fn waiting(status: &PodStatus) -> Option<Reason> {
    let reason = container(status).and_then(waiting_for);
    match reason {
        Some(reason) if reason.reason != "PodInitializing" => Some(reason),
        other => initializing(status).or(other),
    }
}

fn waiting_for(container: &ContainerStatus) -> Option<Reason> {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let reason = waiting.reason.clone()?;
    let message = waiting.message.clone().unwrap_or_else(|| match reason.as_str() {
        "ContainerCreating" => "the container is being created".to_owned(),
        _ => String::new(),
    });
    Some(Reason::new(reason, message))
}

/// What the first init container that has not succeeded is doing. The task has none of its own; the cluster may add some.
fn initializing(status: &PodStatus) -> Option<Reason> {
    let mut containers = status.init_container_statuses.iter().flatten();
    containers.find_map(|container| {
        let name = &container.name;
        let state = container.state.as_ref()?;
        if let Some(ended) = &state.terminated {
            let exit_code = ended.exit_code;
            let message = format!("the init container `{name}` ended with exit code {exit_code}");
            return (exit_code != 0).then(|| Reason::new("InitContainerFailed", message));
        }
        if let Some(reason) = waiting_for(container) {
            let message = format!("the init container `{name}`: {}", reason.message);
            return (reason.reason != "PodInitializing").then(|| Reason::new(reason.reason, message));
        }
        // A sidecar of Kubernetes' own kind runs beside the task, and holds nothing up.
        let runs = state.running.is_some() && container.started != Some(true);
        runs.then(|| Reason::new("PodInitializing", format!("the init container `{name}` runs")))
    })
}

fn condition<'a>(status: &'a PodStatus, kind: &str, value: &str) -> Option<&'a PodCondition> {
    status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == kind && condition.status == value)
}

#[cfg(test)]
mod tests;
