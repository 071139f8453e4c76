//! The status that the node writes for its pods.

use std::net::Ipv4Addr;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::plan::Plan;
use crate::container::Outcome;
use crate::controllers::set_condition;
use crate::object::{Object, time};

/// Size limit for a termination message, in bytes, as with the kubelet.
pub(super) const MAX_MESSAGE: u64 = 4096;

fn container(plan: &Plan, ready: bool, state: Value) -> Value {
    json!({
        "name": plan.container.name,
        "state": state,
        "lastState": plan.last_state,
        "ready": ready,
        "started": ready,
        "restartCount": plan.restarts,
        "image": plan.container.image,
        "imageID": "",
        "containerID": format!("k8s-cli://{}", plan.uid),
    })
}

fn set(pod: &mut Object, phase: &str, ready: bool, container: Value, now: Timestamp) {
    pod.value["status"]["phase"] = phase.into();
    pod.value["status"]["containerStatuses"] = json!([container]);
    let stamp = time(now);
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
        if let Some(reason) = reason.filter(|_| kind.ends_with("eady")) {
            condition["reason"] = reason.into();
        }
        set_condition(pod, condition);
    }
}

fn begin(pod: &mut Object, now: Timestamp) {
    let status = &mut pod.value["status"];
    status["hostIP"] = "127.0.0.1".into();
    status["hostIPs"] = json!([{"ip": "127.0.0.1"}]);
    if !status["startTime"].is_string() {
        status["startTime"] = time(now).into();
    }
}

pub(super) fn waiting(pod: &mut Object, plan: &Plan, reason: &str, message: Option<&str>, now: Timestamp) {
    begin(pod, now);
    let mut state = json!({"waiting": {"reason": reason}});
    if let Some(message) = message {
        state["waiting"]["message"] = message.into();
    }
    let container = container(plan, false, state);
    set(pod, "Pending", false, container, now);
}

pub(super) fn running(
    pod: &mut Object,
    plan: &Plan,
    address: Ipv4Addr,
    started: Timestamp,
    ready: bool,
    now: Timestamp,
) {
    begin(pod, now);
    pod.value["status"]["podIP"] = address.to_string().into();
    pod.value["status"]["podIPs"] = json!([{"ip": address.to_string()}]);
    let mut container = container(plan, ready, json!({"running": {"startedAt": time(started)}}));
    container["started"] = true.into();
    set(pod, "Running", ready, container, now);
}

/// How a container ended.
pub(super) struct Ending<'a> {
    /// Report of the supervisor, or `None` if the supervisor itself was killed.
    pub outcome: Option<&'a Outcome>,
    pub started: Option<Timestamp>,
    /// The end of the termination log.
    pub message: Vec<u8>,
    /// Whether the pod exceeded its `activeDeadlineSeconds`.
    pub is_late: bool,
}

/// Returns the state of a container that has ended, and its exit code.
pub(super) fn terminated(plan: &Plan, ending: &Ending<'_>, now: Timestamp) -> (Value, i32) {
    let lost = Outcome {
        code: 137,
        error: None,
        at: now,
        ..Outcome::default()
    };
    let outcome = ending.outcome.unwrap_or(&lost);
    let reason = match outcome {
        _ if ending.outcome.is_none() => "ContainerStatusUnknown",
        Outcome { error: Some(_), .. } => "StartError",
        Outcome {
            out_of_memory: true,
            code: 137,
            ..
        } => "OOMKilled",
        Outcome { code: 0, .. } => "Completed",
        _ => "Error",
    };
    let mut terminated = json!({
        "exitCode": outcome.code,
        "reason": reason,
        "startedAt": ending.started.map(time),
        "finishedAt": time(outcome.at),
        "containerID": format!("k8s-cli://{}", plan.uid),
    });
    let message = match (&outcome.error, ending.outcome) {
        (Some(error), _) => format!("failed to start the container: {error}"),
        (None, None) => "the container ended because its supervisor was killed".to_owned(),
        _ => String::from_utf8_lossy(&ending.message).into_owned(),
    };
    if !message.is_empty() {
        terminated["message"] = message.into();
    }
    (json!({"terminated": terminated}), outcome.code)
}

/// The container has ended, and restarts after a pause.
pub(super) fn backs_off(pod: &mut Object, plan: &Plan, pause: Duration, now: Timestamp) {
    begin(pod, now);
    let (name, seconds) = (&plan.container.name, pause.as_secs());
    let message = format!(
        "back-off {seconds}s restarting failed container={name} pod={}",
        plan.name
    );
    let state = json!({"waiting": {"reason": "CrashLoopBackOff", "message": message}});
    let container = container(plan, false, state);
    set(pod, "Running", false, container, now);
}

pub(super) fn ended(pod: &mut Object, plan: &Plan, ending: &Ending<'_>, now: Timestamp) {
    let (state, code) = terminated(plan, ending, now);
    begin(pod, now);
    let phase = if code == 0 && !ending.is_late {
        "Succeeded"
    } else {
        "Failed"
    };
    if ending.is_late {
        pod.value["status"]["reason"] = "DeadlineExceeded".into();
        let words = "Pod was active on the node longer than the specified deadline";
        pod.value["status"]["message"] = words.into();
    }
    let container = container(plan, false, state);
    set(pod, phase, false, container, now);
}
