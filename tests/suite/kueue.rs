//! Tasks in a Kueue queue, if the cluster has Kueue (`test-cluster/cluster kueue`, `cargo xtask e2e-kueue`).

use std::time::Duration;

use e2e::{Backend, TaskBuilder, World, eventually, from_environment};
use serde_json::{Value, json};
use task::TaskState;

use crate::gang::{by_rank, preempt};

const GROUP: &str = "/apis/kueue.x-k8s.io/v1beta2";
const MINUTE: Duration = Duration::from_secs(60);

/// A world whose namespace has a queue `team` with this many CPUs; `None` without Kueue.
async fn with_queue(cpus: u32) -> Option<World> {
    if Backend::Embedded.lacks("Kueue is a controller of a cluster") {
        return None;
    }
    if from_environment("K8S_CLI_E2E_KUEUE", 0) == 0 {
        println!("skipped: K8S_CLI_E2E_KUEUE is not set; run `cargo xtask e2e-kueue`");
        return None;
    }
    let world = World::new().await;
    let namespace = world.cluster.namespace.clone();
    let quotas = json!([{"name": "cpu", "nominalQuota": cpus}, {"name": "memory", "nominalQuota": "64Gi"}]);
    let queue = json!({
        "apiVersion": "kueue.x-k8s.io/v1beta2", "kind": "ClusterQueue", "metadata": {"name": namespace},
        "spec": {"namespaceSelector": {}, "resourceGroups": [
            {"coveredResources": ["cpu", "memory"], "flavors": [{"name": "default", "resources": quotas}]},
        ]},
    });
    send(&world, "POST", "/clusterqueues", &queue).await;
    let queue = json!({
        "apiVersion": "kueue.x-k8s.io/v1beta2", "kind": "LocalQueue", "metadata": {"name": "team"},
        "spec": {"clusterQueue": namespace},
    });
    send(&world, "POST", &format!("/namespaces/{namespace}/localqueues"), &queue).await;
    Some(world)
}

async fn send(world: &World, method: &str, path: &str, body: &Value) -> Value {
    let kind = if method == "PATCH" {
        "application/merge-patch+json"
    } else {
        "application/json"
    };
    let request = http::Request::builder()
        .method(method)
        .uri(format!("{GROUP}{path}"))
        .header("content-type", kind)
        .body(if body.is_null() {
            Vec::new()
        } else {
            body.to_string().into_bytes()
        })
        .unwrap();
    let (status, answer) = world.cluster.raw(request).await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!((200..300).contains(&status), "{method} {path}: {answer}");
    serde_json::from_str(&answer).unwrap()
}

/// A task in the queue, with nodes that need one CPU of its quota each.
fn queued(nodes: u32, run: &str) -> TaskBuilder {
    TaskBuilder::new(run).nodes(nodes).cpus(1).queue("team")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_provision_timeout_does_not_run_in_a_queue() {
    let Some(world) = with_queue(1).await else { return };
    let first = world.api.submit(&queued(1, "sleep 6; echo first")).await;
    world.api.wait_for(&first, TaskState::Running).await;
    let task = queued(1, "echo second").provision_timeout(2);
    let second = world.api.submit(&task).await;
    let status = world.api.wait_for_reason(&second, "Suspended").await;
    assert!(status.message.as_deref().unwrap().contains("`team`"), "{status:?}");
    world.api.wait_for(&first, TaskState::Completed).await;
    world.api.wait_for(&second, TaskState::Completed).await;
    assert_eq!(world.api.log_text(&second, "").await, "second\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gang_is_admitted_as_a_whole() {
    let Some(world) = with_queue(2).await else { return };
    let holds = world.api.submit(&queued(1, "sleep 3600")).await;
    world.api.wait_for(&holds, TaskState::Running).await;
    let task = queued(2, "echo \"together $SKYPILOT_NODE_RANK\"").provision_timeout(2);
    let gang = world.api.submit(&task).await;
    let status = world.api.wait_for_reason(&gang, "SchedulingGated").await;
    assert!(
        status.message.as_deref().unwrap().ends_with("waiting in queue `team`"),
        "{status:?}"
    );
    // While it waits, it holds no part of the quota: a smaller task goes first.
    let fits = world.api.submit(&queued(1, "true")).await;
    world.api.wait_for(&fits, TaskState::Completed).await;
    let waiting = world.api.status(&gang).await;
    assert_eq!(waiting.reason.as_deref(), Some("SchedulingGated"));
    world.api.stop(&holds).await;
    world.api.wait_for(&gang, TaskState::Completed).await;
    let log = world.api.log_text(&gang, "").await;
    assert_eq!(by_rank(&log, "together").len(), 2, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_tasks_of_a_queue_are_admitted() {
    let Some(world) = with_queue(3).await else { return };
    let task = |exit: usize| queued(2, &format!("sleep 1; exit {exit}"));
    // A failed task releases its quota, too.
    let submits = (0..8).map(|index| {
        let task = task(index % 2);
        let api = &world.api;
        async move { api.submit(&task).await }
    });
    for (index, id) in futures::future::join_all(submits).await.into_iter().enumerate() {
        let end = if index % 2 == 0 {
            TaskState::Completed
        } else {
            TaskState::Failed
        };
        world.api.wait_for(&id, end).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_task_leaves_its_queue() {
    let Some(world) = with_queue(1).await else { return };
    let runs = world.api.submit(&queued(1, "sleep 3600")).await;
    world.api.wait_for(&runs, TaskState::Running).await;
    let waits = world.api.submit(&queued(2, "sleep 3600")).await;
    world.api.wait_for_reason(&waits, "SchedulingGated").await;
    world.api.stop(&waits).await;
    world.api.stop(&runs).await;
    let path = format!("/namespaces/{}/workloads", world.cluster.namespace);
    eventually(MINUTE, "its Workloads and pods to be deleted", async || {
        let list = send(&world, "GET", &path, &Value::Null).await;
        let is_empty = list["items"].as_array().unwrap().is_empty() && world.cluster.pods().await.is_empty();
        is_empty.then_some(())
    })
    .await;
}

/// Kueue evicts in the same way if a workload with a higher priority needs the quota.
#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_kueue_evicts_is_queued_and_restarted() {
    let Some(world) = with_queue(2).await else { return };
    for (nodes, reason) in [(1, "Suspended"), (2, "SchedulingGated")] {
        let id = world.api.submit(&queued(nodes, "sleep 3600")).await;
        world.api.wait_for_nodes(&id, TaskState::Running).await;
        let queue = format!("/clusterqueues/{}", world.cluster.namespace);
        send(
            &world,
            "PATCH",
            &queue,
            &json!({"spec": {"stopPolicy": "HoldAndDrain"}}),
        )
        .await;
        world.api.wait_for_reason(&id, reason).await;
        send(&world, "PATCH", &queue, &json!({"spec": {"stopPolicy": "None"}})).await;
        world.api.wait_for_nodes(&id, TaskState::Running).await;
        let status = world.api.status(&id).await;
        assert_eq!(status.status, TaskState::Running, "{status:?}");
        world.api.stop(&id).await;
    }
}

/// A quota may exceed what the cluster nodes have.
#[tokio::test(flavor = "multi_thread")]
async fn an_admitted_gang_is_preempted() {
    let Some(world) = with_queue(1000).await else { return };
    preempt(&world, |task| task.queue("team")).await;
}
