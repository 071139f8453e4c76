//! The status that the kubelet writes for its pods.

use std::net::Ipv4Addr;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus, HostIP,
    PodCondition, PodIP, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::pod_config::PodConfig;
use crate::container::ContainerOutcome;
use crate::resources::set_condition;

/// Size limit for a termination message, in bytes, as with the kubelet.
pub(super) const MAX_TERMINATION_MESSAGE: u64 = 4096;

/// Address of this machine.
pub(super) const HOST_IP: &str = "127.0.0.1";

fn container_status(pod_config: &PodConfig, ready: bool, state: ContainerState) -> ContainerStatus {
    ContainerStatus {
        name: pod_config.container.name.clone(),
        started: Some(state.running.is_some()),
        state: Some(state),
        last_state: Some(pod_config.last_state.clone()),
        ready,
        restart_count: i32::try_from(pod_config.restarts).unwrap_or(i32::MAX),
        image: pod_config.container.image.clone().unwrap_or_default(),
        container_id: Some(container_id(pod_config)),
        ..ContainerStatus::default()
    }
}

fn container_id(pod_config: &PodConfig) -> String {
    format!("k8s-cli://{}", pod_config.uid)
}

fn waiting(reason: &str, message: Option<String>) -> ContainerState {
    ContainerState {
        waiting: Some(ContainerStateWaiting {
            reason: Some(reason.to_owned()),
            message,
        }),
        ..ContainerState::default()
    }
}

fn set_phase(status: &mut PodStatus, phase: &str, container_status: ContainerStatus, now: Timestamp) {
    let ready = container_status.ready;
    status.phase = Some(phase.to_owned());
    status.container_statuses = Some(vec![container_status]);
    let over = matches!(phase, "Succeeded" | "Failed");
    let reason = match phase {
        "Succeeded" => Some("PodCompleted"),
        "Failed" => Some("PodFailed"),
        _ if !ready => Some("ContainersNotReady"),
        _ => None,
    };
    for (name, is, reason) in [
        ("PodReadyToStartContainers", !over, None),
        ("Initialized", true, None),
        ("Ready", ready, reason),
        ("ContainersReady", ready, reason),
    ] {
        let word = if is { "True" } else { "False" };
        let mut known = status.conditions.iter().flatten();
        let since = known
            .find(|one| one.type_ == name && one.status == word)
            .and_then(|same| same.last_transition_time.clone());
        let condition = PodCondition {
            type_: name.to_owned(),
            status: word.to_owned(),
            last_transition_time: since.or(Some(Time(now))),
            reason: reason.map(str::to_owned),
            ..PodCondition::default()
        };
        set_condition(status, condition);
    }
}

fn set_start(status: &mut PodStatus, now: Timestamp) {
    status.host_ip = Some(HOST_IP.to_owned());
    status.host_ips = Some(vec![HostIP { ip: HOST_IP.to_owned() }]);
    status.start_time.get_or_insert(Time(now));
}

pub(super) fn set_waiting(
    status: &mut PodStatus,
    pod_config: &PodConfig,
    reason: &str,
    message: Option<&str>,
    now: Timestamp,
) {
    set_start(status, now);
    let state = waiting(reason, message.map(str::to_owned));
    set_phase(status, "Pending", container_status(pod_config, false, state), now);
}

pub(super) fn set_running(
    status: &mut PodStatus,
    pod_config: &PodConfig,
    address: Ipv4Addr,
    started: Timestamp,
    ready: bool,
    now: Timestamp,
) {
    set_start(status, now);
    status.pod_ip = Some(address.to_string());
    status.pod_ips = Some(vec![PodIP {
        ip: address.to_string(),
    }]);
    let state = ContainerState {
        running: Some(ContainerStateRunning {
            started_at: Some(Time(started)),
        }),
        ..ContainerState::default()
    };
    set_phase(status, "Running", container_status(pod_config, ready, state), now);
}

/// How a container ended.
pub(super) struct ContainerExit<'a> {
    /// Report of the shim, or `None` if the shim itself was killed.
    pub outcome: Option<&'a ContainerOutcome>,
    pub started: Option<Timestamp>,
    /// The end of the termination log.
    pub message: Vec<u8>,
    /// Whether the pod exceeded its `activeDeadlineSeconds`.
    pub deadline_exceeded: bool,
}

/// Returns the state of a container that has ended, and its exit code.
pub(super) fn terminated_state(
    pod_config: &PodConfig,
    exit: &ContainerExit<'_>,
    now: Timestamp,
) -> (ContainerState, i32) {
    let lost = ContainerOutcome {
        code: 137,
        error: None,
        at: now,
        ..ContainerOutcome::default()
    };
    let outcome = exit.outcome.unwrap_or(&lost);
    let reason = match outcome {
        _ if exit.outcome.is_none() => "ContainerStatusUnknown",
        ContainerOutcome { error: Some(_), .. } => "StartError",
        ContainerOutcome {
            out_of_memory: true,
            code: 137,
            ..
        } => "OOMKilled",
        ContainerOutcome { code: 0, .. } => "Completed",
        _ => "Error",
    };
    let message = match (&outcome.error, exit.outcome) {
        (Some(error), _) => format!("failed to start the container: {error}"),
        (None, None) => "the container ended because its supervisor was killed".to_owned(),
        _ => String::from_utf8_lossy(&exit.message).into_owned(),
    };
    let terminated = ContainerStateTerminated {
        exit_code: outcome.code,
        reason: Some(reason.to_owned()),
        message: Some(message).filter(|message| !message.is_empty()),
        started_at: exit.started.map(Time),
        finished_at: Some(Time(outcome.at)),
        container_id: Some(container_id(pod_config)),
        ..ContainerStateTerminated::default()
    };
    let state = ContainerState {
        terminated: Some(terminated),
        ..ContainerState::default()
    };
    (state, outcome.code)
}

/// The container has ended, and restarts after a pause.
pub(super) fn set_crash_loop_backoff(status: &mut PodStatus, pod_config: &PodConfig, delay: Duration, now: Timestamp) {
    set_start(status, now);
    let (name, seconds) = (&pod_config.container.name, delay.as_secs());
    let message = format!(
        "back-off {seconds}s restarting failed container={name} pod={}",
        pod_config.name
    );
    let state = waiting("CrashLoopBackOff", Some(message));
    set_phase(status, "Running", container_status(pod_config, false, state), now);
}

pub(super) fn set_ended(status: &mut PodStatus, pod_config: &PodConfig, exit: &ContainerExit<'_>, now: Timestamp) {
    let (state, code) = terminated_state(pod_config, exit, now);
    set_start(status, now);
    let phase = if code == 0 && !exit.deadline_exceeded {
        "Succeeded"
    } else {
        "Failed"
    };
    if exit.deadline_exceeded {
        status.reason = Some("DeadlineExceeded".to_owned());
        status.message = Some("Pod was active on the node longer than the specified deadline".to_owned());
    }
    set_phase(status, phase, container_status(pod_config, false, state), now);
}
