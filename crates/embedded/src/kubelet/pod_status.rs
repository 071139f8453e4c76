//! The status that the kubelet writes for its pods.

use std::net::Ipv4Addr;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::pod_config::PodConfig;
use crate::container::ContainerOutcome;
use crate::object::{Object, format_time};

/// Size limit for a termination message, in bytes, as with the kubelet.
pub(super) const MAX_TERMINATION_MESSAGE: u64 = 4096;

fn container_status(pod_config: &PodConfig, ready: bool, state: Value) -> Value {
    json!({
        "name": pod_config.container.name,
        "state": state,
        "lastState": pod_config.last_state,
        "ready": ready,
        "started": ready,
        "restartCount": pod_config.restarts,
        "image": pod_config.container.image,
        "imageID": "",
        "containerID": format!("k8s-cli://{}", pod_config.uid),
    })
}

fn set_phase(pod: &mut Object, phase: &str, ready: bool, container_status: Value, now: Timestamp) {
    pod.value["status"]["phase"] = phase.into();
    pod.value["status"]["containerStatuses"] = json!([container_status]);
    let stamp = format_time(now);
    let over = matches!(phase, "Succeeded" | "Failed");
    let reason = match phase {
        "Succeeded" => Some("PodCompleted"),
        "Failed" => Some("PodFailed"),
        _ if !ready => Some("ContainersNotReady"),
        _ => None,
    };
    for (kind, is) in [
        ("PodReadyToStartContainers", !over),
        ("Initialized", true),
        ("Ready", ready),
        ("ContainersReady", ready),
    ] {
        let known = pod.value["status"]["conditions"].as_array().into_iter().flatten();
        let word = if is { "True" } else { "False" };
        let mut since = stamp.clone();
        if let Some(same) = known
            .into_iter()
            .find(|one| one["type"] == kind && one["status"] == word)
        {
            since = same["lastTransitionTime"].as_str().unwrap_or(&stamp).to_owned();
        }
        let mut condition = json!({"type": kind, "status": word, "lastProbeTime": null, "lastTransitionTime": since});
        if let Some(reason) = reason.filter(|_| matches!(kind, "Ready" | "ContainersReady")) {
            condition["reason"] = reason.into();
        }
        pod.set_condition(condition);
    }
}

fn set_start(pod: &mut Object, now: Timestamp) {
    let status = &mut pod.value["status"];
    status["hostIP"] = "127.0.0.1".into();
    status["hostIPs"] = json!([{"ip": "127.0.0.1"}]);
    if !status["startTime"].is_string() {
        status["startTime"] = format_time(now).into();
    }
}

pub(super) fn set_waiting(
    pod: &mut Object,
    pod_config: &PodConfig,
    reason: &str,
    message: Option<&str>,
    now: Timestamp,
) {
    set_start(pod, now);
    let mut state = json!({"waiting": {"reason": reason}});
    if let Some(message) = message {
        state["waiting"]["message"] = message.into();
    }
    let container_status = container_status(pod_config, false, state);
    set_phase(pod, "Pending", false, container_status, now);
}

pub(super) fn set_running(
    pod: &mut Object,
    pod_config: &PodConfig,
    address: Ipv4Addr,
    started: Timestamp,
    ready: bool,
    now: Timestamp,
) {
    set_start(pod, now);
    pod.value["status"]["podIP"] = address.to_string().into();
    pod.value["status"]["podIPs"] = json!([{"ip": address.to_string()}]);
    let mut container_status = container_status(
        pod_config,
        ready,
        json!({"running": {"startedAt": format_time(started)}}),
    );
    container_status["started"] = true.into();
    set_phase(pod, "Running", ready, container_status, now);
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
pub(super) fn terminated_state(pod_config: &PodConfig, exit: &ContainerExit<'_>, now: Timestamp) -> (Value, i32) {
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
    let mut terminated = json!({
        "exitCode": outcome.code,
        "reason": reason,
        "startedAt": exit.started.map(format_time),
        "finishedAt": format_time(outcome.at),
        "containerID": format!("k8s-cli://{}", pod_config.uid),
    });
    let message = match (&outcome.error, exit.outcome) {
        (Some(error), _) => format!("failed to start the container: {error}"),
        (None, None) => "the container ended because its supervisor was killed".to_owned(),
        _ => String::from_utf8_lossy(&exit.message).into_owned(),
    };
    if !message.is_empty() {
        terminated["message"] = message.into();
    }
    (json!({"terminated": terminated}), outcome.code)
}

/// The container has ended, and restarts after a pause.
pub(super) fn set_crash_loop_backoff(pod: &mut Object, pod_config: &PodConfig, delay: Duration, now: Timestamp) {
    set_start(pod, now);
    let (name, seconds) = (&pod_config.container.name, delay.as_secs());
    let message = format!(
        "back-off {seconds}s restarting failed container={name} pod={}",
        pod_config.name
    );
    let state = json!({"waiting": {"reason": "CrashLoopBackOff", "message": message}});
    let container_status = container_status(pod_config, false, state);
    set_phase(pod, "Running", false, container_status, now);
}

pub(super) fn set_ended(pod: &mut Object, pod_config: &PodConfig, exit: &ContainerExit<'_>, now: Timestamp) {
    let (state, code) = terminated_state(pod_config, exit, now);
    set_start(pod, now);
    let phase = if code == 0 && !exit.deadline_exceeded {
        "Succeeded"
    } else {
        "Failed"
    };
    if exit.deadline_exceeded {
        pod.value["status"]["reason"] = "DeadlineExceeded".into();
        let words = "Pod was active on the node longer than the specified deadline";
        pod.value["status"]["message"] = words.into();
    }
    let container_status = container_status(pod_config, false, state);
    set_phase(pod, phase, false, container_status, now);
}
