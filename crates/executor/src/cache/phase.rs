//! Reduces the status of a pod to a phase with a reason.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, PodCondition, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use task::TaskState;

use super::reasons::{
    CONTAINER_CREATING, DEADLINE_EXCEEDED, DISRUPTION_TARGET, ERROR, FAILED, INIT_CONTAINER_FAILED, OOM_KILLED,
    POD_DELETED, POD_INITIALIZING, Reason, UNSCHEDULABLE,
};
use crate::labels;

/// How the script of a node records a program that it does not find (`manifest/script.rs`), and bash's exit code for it.
const COMMAND_NOT_FOUND: &str = "command not found: ";
const NOT_FOUND_EXIT_CODE: i32 = 127;

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Phase {
    Pending(Option<Reason>),
    Running { since: Option<Timestamp> },
    Ended(PodEnd),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PodEnd {
    pub state: TaskState,
    pub reason: Option<Reason>,
    pub exit_code: Option<i32>,
    /// Whether the container ever started, and so can have a log.
    pub has_run: bool,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
}

/// Facts from the metadata and spec of a pod that change what its status means.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct PodFacts {
    /// Its `activeDeadlineSeconds`.
    pub deadline_seconds: Option<i64>,
    /// When the deletion was requested.
    pub deleted_at: Option<Timestamp>,
    /// Whether the server ended the pod because other containers kept running after the task's container.
    pub ended_with_leftovers: bool,
}

/// The phase of a pod, as decided by the container that runs the task. Admission webhooks may have injected other
/// containers, which Kubernetes' own phase includes. `Running` means that the task's container runs.
pub(super) fn pod_phase(status: &PodStatus, facts: PodFacts) -> Phase {
    let container = container(status);
    let ended = container.and_then(|container| container.state.as_ref()?.terminated.as_ref());
    match (status.phase.as_deref(), ended) {
        (Some("Succeeded" | "Failed"), _) => Phase::Ended(end(status, ended, facts)),
        // Injected containers keep running, perhaps forever, and would keep the pod in phase `Running`.
        (Some("Running"), Some(_)) if has_leftover_containers(status) => Phase::Ended(end(status, ended, facts)),
        // The kubelet is about to report the end of the pod, which says more than the end of its container.
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

/// The container that runs the task. Pods of the Python implementation have one container, with a different name.
fn container(status: &PodStatus) -> Option<&ContainerStatus> {
    let containers = status.container_statuses.as_deref().unwrap_or_default();
    let ours = containers.iter().find(|container| container.name == labels::CONTAINER);
    ours.or_else(|| containers.first().filter(|_| containers.len() == 1))
}

/// Whether other containers keep running after the task's container has ended. Native sidecars, which are init
/// containers, don't count: the kubelet terminates them.
pub(super) fn has_leftover_containers(status: &PodStatus) -> bool {
    let state = |container: &'_ ContainerStatus| container.state.clone().unwrap_or_default();
    let has_ended = container(status).is_some_and(|container| state(container).terminated.is_some());
    let mut others = status.container_statuses.iter().flatten();
    has_ended && status.phase.as_deref() == Some("Running") && others.any(|other| state(other).running.is_some())
}

/// Whether the task's container is ready. The pod's `Ready` condition would also wait for injected containers.
pub(super) fn is_ready(status: &PodStatus) -> bool {
    container(status).is_some_and(|container| container.ready)
}

fn end(status: &PodStatus, ended: Option<&ContainerStateTerminated>, facts: PodFacts) -> PodEnd {
    let reason = failure(status, ended, facts);
    let time = |time: Option<&Time>| time.map(|time| time.0);
    PodEnd {
        state: if reason.is_some() {
            TaskState::Failed
        } else {
            TaskState::Completed
        },
        reason,
        exit_code: ended.map(|ended| ended.exit_code),
        has_run: ended.is_some_and(|ended| ended.started_at.is_some() || ended.container_id.is_some()),
        started_at: ended.and_then(|ended| time(ended.started_at.as_ref())),
        finished_at: ended.and_then(|ended| time(ended.finished_at.as_ref())),
    }
}

/// Why a pod failed, or `None` if it succeeded. What happened to the pod takes precedence over what happened to its
/// container.
fn failure(status: &PodStatus, ended: Option<&ContainerStateTerminated>, facts: PodFacts) -> Option<Reason> {
    let has_succeeded = match (status.phase.as_deref(), ended) {
        (Some("Succeeded"), _) => true,
        // The pod's phase may be `Failed` because of an injected container.
        (_, Some(ended)) => ended.exit_code == 0 && (status.reason.is_none() || facts.ended_with_leftovers),
        (_, None) => false,
    };
    // A task that exits with 0 after SIGTERM has not finished its work.
    if let Some(reason) = disruption(status, ended, facts) {
        let ended_before = has_succeeded && !ended.is_some_and(|ended| has_ended_since(ended, reason.since));
        if !ended_before {
            return Some(reason.reason);
        }
    }
    if has_succeeded {
        return None;
    }
    if let Some(reason) = status.reason.as_ref().filter(|_| !facts.ended_with_leftovers) {
        let message = status
            .message
            .clone()
            .unwrap_or_else(|| format!("the pod failed: {reason}"));
        return Some(Reason::new(reason.clone(), message));
    }
    let Some(ended) = ended else {
        return Some(never_started(status));
    };
    // On a machine without images, the container has the programs of the machine.
    let pulled = container(status).filter(|container| !container.image_id.is_empty());
    let image = pulled.map(|container| container.image.as_str());
    Some(overdue(status, ended, facts).unwrap_or_else(|| exited(ended, image)))
}

/// An external event that ended a pod, and when it began.
struct Disruption {
    since: Option<Timestamp>,
    reason: Reason,
}

fn disruption(status: &PodStatus, ended: Option<&ContainerStateTerminated>, facts: PodFacts) -> Option<Disruption> {
    if let Some(condition) = condition(status, "DisruptionTarget", "True") {
        let message = || "the pod was terminated by the cluster".to_owned();
        return Some(Disruption {
            since: condition.last_transition_time.as_ref().map(|time| time.0),
            reason: Reason::new(
                condition.reason.clone().unwrap_or_else(|| DISRUPTION_TARGET.to_owned()),
                condition.message.clone().unwrap_or_else(message),
            ),
        });
    }
    // A failed container says more than "deleted", even if the pod was deleted as well.
    let deleted_at = facts.deleted_at?;
    let has_succeeded = ended.is_some_and(|ended| ended.exit_code == 0);
    has_succeeded.then(|| Disruption {
        since: Some(deleted_at),
        reason: Reason::new(POD_DELETED, "the pod was deleted before it finished"),
    })
}

/// Kubernetes truncates times to whole seconds, so the same second counts as later.
fn has_ended_since(ended: &ContainerStateTerminated, time: Option<Timestamp>) -> bool {
    let finished_at = ended.finished_at.as_ref().map(|time| time.0);
    finished_at
        .zip(time)
        .is_none_or(|(finished_at, time)| finished_at >= time)
}

/// Detects that the container ran into the pod's deadline. The pod itself reports this only once all of its containers
/// have ended.
fn overdue(status: &PodStatus, ended: &ContainerStateTerminated, facts: PodFacts) -> Option<Reason> {
    if facts.ended_with_leftovers {
        return None;
    }
    let deadline = SignedDuration::from_secs(facts.deadline_seconds?);
    let due = status.start_time.as_ref()?.0.checked_add(deadline).ok()?;
    has_ended_since(ended, Some(due)).then(|| Reason::new(DEADLINE_EXCEEDED, "the pod exceeded its deadline"))
}

/// Why the container never started.
fn never_started(status: &PodStatus) -> Reason {
    let message = status.message.clone().map(|message| Reason::new(FAILED, message));
    let failed = || Reason::new(FAILED, "the pod failed before its container started");
    message.or_else(|| initializing(status)).unwrap_or_else(failed)
}

fn exited(ended: &ContainerStateTerminated, image: Option<&str>) -> Reason {
    let reason = ended.reason.clone().unwrap_or_else(|| ERROR.to_owned());
    let recorded = ended.message.as_deref().unwrap_or_default().trim();
    // The script records every program that it does not find, even if it goes on.
    let missing = recorded
        .lines()
        .filter_map(|line| line.strip_prefix(COMMAND_NOT_FOUND))
        .next_back();
    let others = recorded.lines().filter(|line| !line.starts_with(COMMAND_NOT_FOUND));
    let recorded = others.collect::<Vec<_>>().join("\n");
    let mut message = match (recorded.as_str(), reason.as_str()) {
        ("", OOM_KILLED) => "the container exceeded its memory limit; increase `memory`".to_owned(),
        ("", _) => match ended.signal {
            Some(signal) if signal != 0 => format!("the container was terminated by signal {signal}"),
            _ => format!("the container exited with code {}", ended.exit_code),
        },
        (recorded, _) => recorded.to_owned(),
    };
    if let Some(program) = missing.filter(|_| ended.exit_code == NOT_FOUND_EXIT_CODE) {
        message.push_str(&match image {
            Some(image) => {
                format!(": `{program}` is not in the image `{image}`; set `image_id`, or install it in `setup`")
            }
            None => format!(": `{program}` is not installed on this machine; install it, e.g., in `setup`"),
        });
    }
    Reason::new(reason, message)
}

fn unscheduled(status: &PodStatus) -> Option<Reason> {
    let condition = condition(status, "PodScheduled", "False")?;
    Some(Reason::new(
        condition.reason.clone().unwrap_or_else(|| UNSCHEDULABLE.to_owned()),
        condition.message.clone().unwrap_or_default(),
    ))
}

/// What a pod waits for: its own container, or an init container that runs before it.
fn waiting(status: &PodStatus) -> Option<Reason> {
    let reason = container(status).and_then(waiting_for);
    match reason {
        Some(reason) if reason.reason != POD_INITIALIZING => Some(reason),
        other => initializing(status).or(other),
    }
}

fn waiting_for(container: &ContainerStatus) -> Option<Reason> {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let reason = waiting.reason.clone()?;
    let message = waiting.message.clone().unwrap_or_else(|| match reason.as_str() {
        CONTAINER_CREATING => "the container is being created".to_owned(),
        _ => String::new(),
    });
    Some(Reason::new(reason, message))
}

/// The state of the first init container that has not succeeded. Tasks have none, but admission webhooks may inject
/// some.
fn initializing(status: &PodStatus) -> Option<Reason> {
    let mut containers = status.init_container_statuses.iter().flatten();
    containers.find_map(|container| {
        let name = &container.name;
        let state = container.state.as_ref()?;
        if let Some(ended) = &state.terminated {
            let exit_code = ended.exit_code;
            let message = format!("init container `{name}` exited with code {exit_code}");
            return (exit_code != 0).then(|| Reason::new(INIT_CONTAINER_FAILED, message));
        }
        if let Some(reason) = waiting_for(container) {
            let message = format!("init container `{name}`: {}", reason.message);
            return (reason.reason != POD_INITIALIZING).then(|| Reason::new(reason.reason, message));
        }
        // A native sidecar runs alongside the task and does not delay it.
        let runs = state.running.is_some() && container.started != Some(true);
        runs.then(|| Reason::new(POD_INITIALIZING, format!("init container `{name}` is running")))
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
