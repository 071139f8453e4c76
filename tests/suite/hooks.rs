//! Hooks: what the nodes of a task run before their processes receive SIGTERM.

use std::time::Duration;

use e2e::{TaskBuilder, World, small_task};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::{Value, json};
use task::TaskState;

const LIMIT: Duration = Duration::from_secs(90);

/// Saves its work on SIGTERM, and says so.
const TRAINER: &str = "trap 'echo saved; exit 3' TERM; echo begun; while :; do read -rt 0.1 <> <(:); done";

async fn cancel(world: &World, id: &str) {
    let _ = world.api.post(&format!("/tasks/{id}/cancel"), &Value::Null).await.ok();
    world
        .api
        .wait_for_status(id, LIMIT, "the nodes to end", |status| {
            status.metadata.nodes.iter().all(|node| node.status.is_final())
        })
        .await;
}

async fn started(world: &World, task: &TaskBuilder) -> String {
    let id = world.api.submit(task).await;
    let nodes = world.api.status(&id).await.metadata.num_nodes as usize;
    world
        .api
        .wait_for_log(&id, |log| log.matches("begun").count() == nodes)
        .await;
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn hooks_run_in_order_before_the_processes_of_a_canceled_task_receive_sigterm() {
    let world = World::new().await;
    let task = small_task(TRAINER)
        .env("WHERE", "$(HOME) $$")
        .hook(json!({"run": "echo \"one: $WHERE $(pwd)\"; exit 4", "events": ["stop"]}))
        .hook(json!({"run": "echo hanging; read -rt 600 <> <(:)", "timeout": 1}))
        .hook(json!({"run": "echo three", "events": ["preemption", "down"], "timeout": 60}))
        .workdir("/usr");
    let id = started(&world, &task).await;
    let pods = world.cluster.pods().await;
    let mut grace = pods.iter().filter(|pod| pod.name_any().contains(&id)).map(|pod: &Pod| {
        let spec = pod.spec.as_ref().unwrap();
        spec.termination_grace_period_seconds
    });
    assert_eq!(grace.next(), Some(Some(91)));
    cancel(&world, &id).await;
    let log = world.api.log_text(&id, "").await;
    // Lines of standard output and standard error may be slightly out of order.
    let (ours, theirs): (Vec<&str>, Vec<&str>) = log.lines().partition(|line| line.starts_with("[k8s-cli: "));
    assert_eq!(theirs, ["begun", "one: $(HOME) $$ /usr", "hanging", "three", "saved"]);
    assert_eq!(
        ours,
        [
            "[k8s-cli: hook 1 of 3 failed with exit code 4]",
            "[k8s-cli: hook 2 of 3 has not ended within 1 s; terminating it]",
        ]
    );
    let status = world.api.status(&id).await;
    assert_eq!(
        (status.reason.as_deref(), status.metadata.nodes[0].exit_code),
        (Some("Cancelled"), Some(3)),
        "{status:?}"
    );
}

/// Whatever terminates a node, and in a later attempt as well.
#[tokio::test(flavor = "multi_thread")]
async fn every_node_of_every_attempt_runs_its_hooks() {
    let world = World::new().await;
    let fails = "case $NODE_RANK in 1) sleep 8; exit 9 ;; esac";
    let long = format!("echo hook of $RANK\n{}", "#".repeat(6000));
    let task = small_task(format!("{fails}\n{TRAINER}"))
        .nodes(2)
        .hook(json!({"run": long}))
        .recovery(json!({"max_restarts_on_errors": 1}));
    let id = world.api.submit(&task).await;
    let status = world.api.wait_for(&id, TaskState::Failed).await;
    assert_eq!(status.metadata.attempts.len(), 1, "{status:?}");
    let log = world.api.log_text(&id, "").await;
    assert_eq!(log.matches("hook of 0").count(), 2, "{log}");
    assert!(
        !log.contains("hook of 1"),
        "the node that failed was not terminated: {log}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_shows_the_hooks_and_a_mistake_in_one_has_its_place() {
    let world = World::new().await;
    let task = small_task("true").hook(json!({"run": "echo of-the-hook", "timeout": 30}));
    let shown = world
        .api
        .post("/tasks/submit?dry_run=true", &task)
        .await
        .ok()
        .to_string();
    assert!(
        shown.contains("of-the-hook") && shown.contains("\"terminationGracePeriodSeconds\":60"),
        "{shown}"
    );
    let wrong = small_task("true").hook(json!({"run": "x", "timeout": 0}));
    let wrong = world.api.try_submit(&wrong).await;
    assert_eq!(wrong.invalid().0, "body.config.hooks.0.timeout");
    let first = world.api.submit_once("hooks-key", &task).await.unwrap().task_id();
    let again = world.api.submit_once("hooks-key", &task).await.unwrap().task_id();
    assert_eq!(first, again);
    let other = small_task("true").hook(json!({"run": "echo another-hook", "timeout": 30}));
    assert_eq!(world.api.submit_once("hooks-key", &other).await.unwrap().status, 409);
}
