//! Canceled tasks end, and keep their status and log.

use std::time::Duration;

use e2e::{Answer, CommandLine, TaskBuilder, World, small_task};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use task::TaskState;
use task::wire::TaskStatus;

const LIMIT: Duration = Duration::from_secs(60);

/// Runs until it is told to end, and says so.
const PATIENT: &str = "trap 'echo saved; exit 0' TERM; echo begun; sleep 1000 & wait";

async fn cancel(world: &World, id: &str) -> Answer {
    world.api.post(&format!("/tasks/{id}/cancel"), &Value::Null).await
}

/// Waits until all nodes of a canceled task have ended.
async fn wait_until_cancelled(world: &World, id: &str) -> TaskStatus {
    let has_ended = |status: &TaskStatus| {
        let mut nodes = status.metadata.nodes.iter();
        status.reason.as_deref() == Some("Cancelled") && nodes.all(|node| node.status.is_final())
    };
    world
        .api
        .wait_for_status(id, LIMIT, "the task to be canceled", has_ended)
        .await
}

async fn started(world: &World, task: &TaskBuilder) -> String {
    let id = world.api.submit(task).await;
    // Of every node: the nodes begin one after the other, and one that has not begun has nothing to save.
    let nodes = world.api.status(&id).await.metadata.num_nodes as usize;
    world
        .api
        .wait_for_log(&id, |log| log.matches("begun").count() == nodes)
        .await;
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canceled_task_keeps_its_status_and_log() {
    let world = World::new().await;
    // With and without an owner object.
    let single = started(&world, &small_task(PATIENT)).await;
    let keyed = world
        .api
        .submit_once("cancel-key", &small_task(PATIENT))
        .await
        .unwrap()
        .task_id();
    world.api.wait_for_log(&keyed, |log| log.contains("begun")).await;
    for id in [&single, &keyed] {
        assert_eq!(cancel(&world, id).await.ok()["status"], "cancelled");
        let status = wait_until_cancelled(&world, id).await;
        assert_eq!(
            (status.status, status.metadata.nodes[0].exit_code),
            (TaskState::Failed, Some(143))
        );
        assert_eq!(status.message.as_deref(), Some("the task was canceled"));
        assert_eq!(world.api.log_text(id, "").await, "begun\nsaved\n");
        assert_eq!(cancel(&world, id).await.ok()["status"], "already_finished");
    }
    assert_eq!(cancel(&world, "00000000").await.status, 404);
    let stranger = world.api.as_user("bob@example.com");
    assert_eq!(
        stranger
            .post(&format!("/tasks/{single}/cancel"), &Value::Null)
            .await
            .status,
        404
    );
    let _ = world.api.stop(&single).await.ok();
    assert_eq!(world.api.try_status(&single).await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_completed_task_stays_completed() {
    let world = World::new().await;
    let id = world.api.run("echo done").await;
    let before = world.api.wait_for(&id, TaskState::Completed).await;
    assert_eq!(cancel(&world, &id).await.ok()["status"], "already_finished");
    assert_eq!(world.api.status(&id).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_nodes_of_a_canceled_task_end_and_it_is_not_retried() {
    let world = World::new().await;
    let task = small_task(PATIENT)
        .nodes(3)
        .setup("true")
        .recovery(json!({"max_restarts_on_errors": 5}));
    let id = started(&world, &task).await;
    let _ = cancel(&world, &id).await.ok();
    let status = wait_until_cancelled(&world, &id).await;
    assert!(
        status
            .metadata
            .nodes
            .iter()
            .all(|node| node.reason.as_deref() == Some("Cancelled")),
        "{status:?}"
    );
    let log = world.api.log_text(&id, "").await;
    assert_eq!(log.matches("saved").count(), 3, "{log}");
    // A retry would have begun within this time.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let status = world.api.status(&id).await;
    assert_eq!(
        (status.status, status.metadata.attempts.len()),
        (TaskState::Failed, 0),
        "{status:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_fails_again_and_again_can_be_canceled() {
    let world = World::new().await;
    let id = world
        .api
        .submit(&small_task("exit 1").recovery(json!({"max_restarts_on_errors": 1000})))
        .await;
    world
        .api
        .wait_for_status(&id, LIMIT, "a second attempt", |status| {
            !status.metadata.attempts.is_empty()
        })
        .await;
    assert_eq!(cancel(&world, &id).await.ok()["status"], "cancelled");
    let attempts = wait_until_cancelled(&world, &id).await.metadata.attempts.len();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let status = world.api.status(&id).await;
    assert_eq!(
        (status.status, status.metadata.attempts.len()),
        (TaskState::Failed, attempts),
        "{status:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_waits_for_resources_can_be_canceled() {
    let world = World::new().await;
    for nodes in [1, 2] {
        let id = world
            .api
            .submit(&TaskBuilder::new("true").cpus(100_000).nodes(nodes))
            .await;
        world.api.wait_for_reason(&id, "Unschedulable").await;
        let _ = cancel(&world, &id).await.ok();
        let status = wait_until_cancelled(&world, &id).await;
        assert_eq!(status.status, TaskState::Failed);
        assert_eq!(world.api.log_text(&id, "").await, "");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancellation_that_a_server_has_recorded_is_completed_by_another() {
    let mut world = World::own(&[]).await;
    let id = started(&world, &small_task(PATIENT).nodes(2)).await;
    let (_other, api) = world.another(&world.kubeconfig(), &[]);
    // As a server leaves it that dies after the first step of a cancellation.
    let owner = world.cluster.owners().await.remove(0);
    let record = json!({"metadata": {"annotations": {"k8s-cli/turn": "1 cancelled"}}});
    if world.state_dir().is_none() {
        world.server().kill();
    }
    let patch = Patch::Merge(record);
    world
        .cluster
        .api::<ConfigMap>()
        .patch(&owner.name_any(), &PatchParams::default(), &patch)
        .await
        .unwrap();
    let is_cancelled = |status: &TaskStatus| status.status == TaskState::Failed;
    let status = api
        .wait_for_status(&id, LIMIT, "the task to be canceled", is_cancelled)
        .await;
    assert_eq!(status.reason.as_deref(), Some("Cancelled"));
}

#[tokio::test(flavor = "multi_thread")]
async fn canceling_everything_leaves_what_has_finished() {
    let world = World::own(&[]).await;
    let finished = world.api.run("echo done").await;
    world.api.wait_for(&finished, TaskState::Completed).await;
    let running = started(&world, &small_task(PATIENT)).await;
    let cli = CommandLine::of(&world);
    assert_eq!(cli.run(&["jobs", "cancel", "--all", "--yes"]).ok(), "Canceled 1 task\n");
    wait_until_cancelled(&world, &running).await;
    assert_eq!(world.api.status(&finished).await.status, TaskState::Completed);
    assert_eq!(cli.run(&["jobs", "cancel", "-a", "-y"]).ok(), "Canceled 0 tasks\n");
    let followed = cli.run(&["jobs", "logs", "--exit-code", &running]);
    assert_eq!(
        (followed.code, followed.stderr.contains("canceled")),
        (143, true),
        "{}",
        followed.stderr
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_followed_task_that_is_canceled_ends_with_103() {
    let world = World::new().await;
    let cli = CommandLine::of(&world);
    let submit = cli
        .command(&["jobs", "submit", "--name", "followed", "--", PATIENT])
        .spawn()
        .unwrap();
    let find = async || {
        let tasks = world.api.tasks().await;
        tasks
            .into_iter()
            .find(|task| task.name == "followed")
            .map(|task| task.task_id)
    };
    let id = e2e::eventually(LIMIT, "the task to exist", find).await;
    world.api.wait_for_log(&id, |log| log.contains("begun")).await;
    assert_eq!(
        cli.run(&["jobs", "cancel", "followed"]).ok(),
        format!("Task {id} canceled\n")
    );
    let output = tokio::task::spawn_blocking(|| submit.wait_with_output().unwrap())
        .await
        .unwrap();
    assert_eq!(output.status.code(), Some(103));
}
