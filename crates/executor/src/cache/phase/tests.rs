//! What the status of a pod means for its task.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::PodStatus;
use serde_json::{Value, json};
use task::TaskState;

use super::{Phase, PodEnd, PodFacts, has_leftover_containers, is_ready, pod_phase};

fn status(value: &Value) -> PodStatus {
    serde_json::from_value(value.clone()).unwrap()
}

fn container(name: &str, ready: bool, state: &Value) -> Value {
    json!({"name": name, "image": "", "imageID": "", "ready": ready, "restartCount": 0, "state": state})
}

fn terminated(code: i32, finished: &str) -> Value {
    json!({"terminated": {"exitCode": code, "reason": "x", "startedAt": "2026-11-23T15:30:00Z", "finishedAt": finished}})
}

fn running() -> Value {
    json!({"running": {"startedAt": "2026-11-23T15:30:00Z"}})
}

fn end(value: &Value, facts: PodFacts) -> PodEnd {
    match pod_phase(&status(value), facts) {
        Phase::Ended(end) => end,
        other => panic!("{other:?}"),
    }
}

fn reason(end: &PodEnd) -> Option<&str> {
    end.reason.as_ref().map(|reason| reason.reason.as_str())
}

fn at(text: &str) -> Option<Timestamp> {
    Some(text.parse().unwrap())
}

#[test]
fn a_container_that_others_have_put_first_is_not_the_task() {
    let sidecar = container("a-sidecar", true, &running());
    let of_task = |code| container("task", false, &terminated(code, "2026-11-23T15:31:00Z"));
    let goes_on = json!({"phase": "Running", "containerStatuses": [sidecar, of_task(7)]});
    let failed = end(&goes_on, PodFacts::default());
    assert_eq!((failed.state, failed.exit_code), (TaskState::Failed, Some(7)));
    assert!(has_leftover_containers(&status(&goes_on)) && !is_ready(&status(&goes_on)));
    // The server ended this pod, so the pod's own reason is not how the task ended.
    let ended = json!({
        "phase": "Failed", "reason": "DeadlineExceeded",
        "containerStatuses": [container("a-sidecar", false, &terminated(143, "2026-11-23T15:32:00Z")), of_task(0)],
    });
    let facts = PodFacts {
        ended_with_leftovers: true,
        deadline_seconds: Some(1),
        ..PodFacts::default()
    };
    assert_eq!(end(&ended, facts).state, TaskState::Completed);
    assert_eq!(reason(&end(&ended, PodFacts::default())), Some("DeadlineExceeded"));
    // A failed injected container does not fail the task.
    let other_failed = json!({
        "phase": "Failed",
        "containerStatuses": [container("a-sidecar", false, &terminated(1, "2026-11-23T15:31:00Z")), of_task(0)],
    });
    assert_eq!(end(&other_failed, PodFacts::default()).state, TaskState::Completed);
}

#[test]
fn a_task_alone_in_its_pod_is_over_when_the_pod_is() {
    let alone = json!({"phase": "Running", "containerStatuses": [container("task", false, &terminated(0, "2026-11-23T15:31:00Z"))]});
    assert!(matches!(
        pod_phase(&status(&alone), PodFacts::default()),
        Phase::Running { .. }
    ));
    assert!(!has_leftover_containers(&status(&alone)));
}

#[test]
fn a_deadline_that_other_containers_hide_is_told() {
    let hidden = json!({
        "phase": "Running", "startTime": "2026-11-23T15:30:00Z",
        "containerStatuses": [container("a-sidecar", true, &running()), container("task", false, &terminated(143, "2026-11-23T15:31:00Z"))],
    });
    let facts = PodFacts {
        deadline_seconds: Some(60),
        ..PodFacts::default()
    };
    assert_eq!(reason(&end(&hidden, facts)), Some("DeadlineExceeded"));
    assert_eq!(reason(&end(&hidden, PodFacts::default())), Some("x"));
}

#[test]
fn a_disruption_is_a_failure_whatever_the_exit_code() {
    let evicted = |finished: &str| {
        json!({
            "phase": "Succeeded",
            "conditions": [{
                "type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI", "message": "evicted",
                "lastTransitionTime": "2026-11-23T15:31:00Z",
            }],
            "containerStatuses": [container("task", false, &terminated(0, finished))],
        })
    };
    let during = end(&evicted("2026-11-23T15:31:00Z"), PodFacts::default());
    assert_eq!(
        (during.state, reason(&during)),
        (TaskState::Failed, Some("EvictionByEvictionAPI"))
    );
    assert_eq!(
        end(&evicted("2026-11-23T15:30:59Z"), PodFacts::default()).state,
        TaskState::Completed
    );
    let deleted = json!({"phase": "Succeeded", "containerStatuses": [container("task", false, &terminated(0, "2026-11-23T15:31:00Z"))]});
    let facts = |deleted_at| PodFacts {
        deleted_at,
        ..PodFacts::default()
    };
    let during = end(&deleted, facts(at("2026-11-23T15:31:00Z")));
    assert_eq!((during.state, reason(&during)), (TaskState::Failed, Some("PodDeleted")));
    assert_eq!(
        end(&deleted, facts(at("2026-11-23T15:31:01Z"))).state,
        TaskState::Completed
    );
}

#[test]
fn what_never_started_has_no_log() {
    let pulling = json!({"waiting": {"reason": "ContainerCreating"}});
    for state in [
        pulling,
        json!({"terminated": {"exitCode": 137, "reason": "ContainerStatusUnknown"}}),
    ] {
        let failed = json!({
            "phase": "Failed", "reason": "DeadlineExceeded", "containerStatuses": [container("task", false, &state)],
        });
        assert!(!end(&failed, PodFacts::default()).has_run);
    }
    let ran = json!({"phase": "Failed", "containerStatuses": [container("task", false, &terminated(1, "2026-11-23T15:31:00Z"))]});
    assert!(end(&ran, PodFacts::default()).has_run);
}

#[test]
fn an_init_container_that_holds_the_task_up_is_named() {
    let waits = |init: &Value| {
        let status = json!({
            "phase": "Pending", "initContainerStatuses": [init],
            "containerStatuses": [container("task", false, &json!({"waiting": {"reason": "PodInitializing"}}))],
        });
        match pod_phase(&serde_json::from_value(status).unwrap(), PodFacts::default()) {
            Phase::Pending(Some(reason)) => (reason.reason, reason.message),
            other => panic!("{other:?}"),
        }
    };
    let pull = container(
        "proxy",
        false,
        &json!({"waiting": {"reason": "ErrImagePull", "message": "no such image"}}),
    );
    assert_eq!(
        waits(&pull),
        (
            "ErrImagePull".to_owned(),
            "init container `proxy`: no such image".to_owned()
        )
    );
    let runs = container("proxy", false, &running());
    assert_eq!(waits(&runs).1, "init container `proxy` is running");
    let failed = json!({
        "phase": "Failed", "initContainerStatuses": [container("proxy", false, &terminated(3, "2026-11-23T15:31:00Z"))],
        "containerStatuses": [container("task", false, &json!({"waiting": {"reason": "PodInitializing"}}))],
    });
    let failed = end(&failed, PodFacts::default());
    assert_eq!((reason(&failed), failed.has_run), (Some("InitContainerFailed"), false));
}

#[test]
fn a_program_that_was_not_found_is_named() {
    let message = |code: i32, recorded: &str, image_id: &str| {
        let state = json!({"terminated": {"exitCode": code, "reason": "Error", "message": recorded}});
        let mut task = container("task", false, &state);
        task["image"] = json!("python:3.13-slim");
        task["imageID"] = json!(image_id);
        let ended = end(
            &json!({"phase": "Failed", "containerStatuses": [task]}),
            PodFacts::default(),
        );
        ended.reason.unwrap().message
    };
    let recorded = "command not found: uv\ncommand not found: git\n";
    assert_eq!(
        message(127, recorded, "sha256:1"),
        "the container exited with code 127: `git` is not in the image `python:3.13-slim`; set `image_id`, or install \
         it in `setup`"
    );
    assert_eq!(
        message(127, "command not found: git\nsetup failed with exit code 127", ""),
        "setup failed with exit code 127: `git` is not installed on this machine; install it, e.g., in `setup`"
    );
    assert_eq!(message(1, recorded, "x"), "the container exited with code 1");
    assert_eq!(message(127, "", "x"), "the container exited with code 127");
}
