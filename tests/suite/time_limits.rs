//! The provisioning timeout, the time limit, and the TTL of tasks.

use std::time::Duration;

use e2e::{TaskBuilder, World, eventually, small_task};
use serde_json::json;
use task::TaskState;

use crate::gang::by_rank;

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn a_task_past_its_time_limit_fails_and_keeps_its_log() {
    let world = World::own(&["--max-duration", "2s"]).await;
    let task = small_task("echo here; sleep 3600")
        .nodes(2)
        .recovery(json!({"max_restarts_on_errors": 3}));
    let by_default = world.api.submit(&task).await;
    let of_its_own = TaskBuilder::new("sleep 4; echo over").max_duration("10m");
    let of_its_own = world.api.submit(&of_its_own).await;
    let status = world.api.wait_for(&by_default, TaskState::Failed).await;
    assert_eq!(status.reason.as_deref(), Some("DeadlineExceeded"), "{status:?}");
    let message = status.message.unwrap();
    assert!(message.ends_with("exceeded the `max_duration` of 2s"), "{message}");
    let log = world.api.log_text(&by_default, "").await;
    assert_eq!(by_rank(&log, "here").len(), 2, "{log}");
    world.api.wait_for(&of_its_own, TaskState::Completed).await;
    let refused = world.api.try_submit(&TaskBuilder::new("x").max_duration("90")).await;
    assert_eq!(refused.invalid().0, "body.max_duration");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_provision_timeout_of_the_server_is_the_default() {
    let world = World::own(&["--provision-timeout", "2s"]).await;
    let too_much = TaskBuilder::new("true").cpus(900);
    // First, so that it would have timed out by the time the other one has.
    let waits = world.api.submit(&too_much.clone().provision_timeout(-1)).await;
    let fails = world.api.submit(&too_much).await;
    let status = world.api.wait_for(&fails, TaskState::Failed).await;
    assert_eq!(status.reason.as_deref(), Some("ProvisionTimeout"), "{status:?}");
    assert_eq!(world.api.status(&waits).await.status, TaskState::Pending);
}

#[tokio::test(flavor = "multi_thread")]
async fn finished_tasks_are_deleted_after_their_ttl() {
    let world = World::own(&["--ttl-after-finished", "2s"]).await;
    let single = world.api.run("echo over").await;
    let several = small_task("sleep $((NODE_RANK * 4)); exit $NODE_RANK").nodes(2);
    let several = world.api.submit(&several).await;
    let runs = world.api.run("sleep 3600").await;
    for id in [&single, &several] {
        eventually(MINUTE, "the task to be deleted", async || {
            (world.api.try_status(id).await.status == 404).then_some(())
        })
        .await;
        eventually(MINUTE, "its Jobs to be deleted", async || {
            world.cluster.jobs(id).await.is_empty().then_some(())
        })
        .await;
    }
    assert_eq!(world.cluster.owners().await.len(), 0);
    assert_eq!(world.api.task_ids().await, [runs]);
}
