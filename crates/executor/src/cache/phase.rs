//! From the status that the kubelet and the scheduler write to one of a few phases, with its reason.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, PodCondition, PodStatus};
use task::State;

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
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
}

/// The phase of a pod. `Running` means that its container runs.
pub(super) fn of(status: &PodStatus) -> Phase {
    let container = status.container_statuses.iter().flatten().next();
    let ended = container.and_then(|container| container.state.as_ref()?.terminated.as_ref());
    match status.phase.as_deref() {
        Some("Succeeded") => Phase::Ended(end(State::Completed, None, ended)),
        Some("Failed") => Phase::Ended(end(State::Failed, Some(failure(status, ended)), ended)),
        Some("Running") => match container.and_then(|container| container.state.as_ref()?.running.as_ref()) {
            Some(running) => Phase::Running {
                since: running.started_at.as_ref().map(|time| time.0),
            },
            // Its container has ended, and the kubelet is about to say how the pod ended.
            None if ended.is_some() => Phase::Running {
                since: ended.and_then(|ended| ended.started_at.as_ref()).map(|time| time.0),
            },
            None => Phase::Pending(waiting(container)),
        },
        _ => Phase::Pending(unscheduled(status).or_else(|| waiting(container))),
    }
}

/// Whether the kubelet says that it is ready.
pub(super) fn is_ready(status: &PodStatus) -> bool {
    condition(status, "Ready", "True").is_some()
}

fn end(state: State, reason: Option<Reason>, ended: Option<&ContainerStateTerminated>) -> PodEnd {
    PodEnd {
        state,
        reason,
        exit_code: ended.map(|ended| ended.exit_code),
        started_at: ended.and_then(|ended| ended.started_at.as_ref()).map(|time| time.0),
        finished_at: ended.and_then(|ended| ended.finished_at.as_ref()).map(|time| time.0),
    }
}

/// The strongest reason first: what happened to the pod, then to its container.
fn failure(status: &PodStatus, ended: Option<&ContainerStateTerminated>) -> Reason {
    if let Some(disruption) = condition(status, "DisruptionTarget", "True") {
        return Reason::new(
            disruption
                .reason
                .clone()
                .unwrap_or_else(|| "DisruptionTarget".to_owned()),
            disruption
                .message
                .clone()
                .unwrap_or_else(|| "the pod was ended by the cluster".to_owned()),
        );
    }
    if let Some(reason) = &status.reason {
        let message = status
            .message
            .clone()
            .unwrap_or_else(|| format!("the pod failed: {reason}"));
        return Reason::new(reason.clone(), message);
    }
    let Some(ended) = ended else {
        return Reason::new(
            "Failed",
            status.message.clone().unwrap_or_else(|| "the pod failed".to_owned()),
        );
    };
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

fn waiting(container: Option<&ContainerStatus>) -> Option<Reason> {
    let waiting = container?.state.as_ref()?.waiting.as_ref()?;
    let reason = waiting.reason.clone()?;
    let message = waiting.message.clone().unwrap_or_else(|| match reason.as_str() {
        "ContainerCreating" => "the container is being created".to_owned(),
        _ => String::new(),
    });
    Some(Reason::new(reason, message))
}

fn condition<'a>(status: &'a PodStatus, kind: &str, value: &str) -> Option<&'a PodCondition> {
    status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == kind && condition.status == value)
}
