//! Repeated requests create one task.

use e2e::{TaskBuilder, World};
use futures::future::join_all;
use task::TaskState;

async fn ten_at_once(num_nodes: u32) {
    let world = World::own(&[]).await;
    let task = TaskBuilder::new("true").name("once").nodes(num_nodes);
    let answers = join_all((0..10).map(|_| world.api.submit_once("key-1", &task))).await;
    let mut ids: Vec<String> = answers.into_iter().map(|answer| answer.unwrap().task_id()).collect();
    ids.dedup();
    assert_eq!(ids.len(), 1, "{ids:?}");
    assert_eq!(world.cluster.all_jobs().await.len(), num_nodes as usize);
    assert_eq!(world.api.task_ids().await, ids);
    // Also later, and only for this user.
    let again = world.api.submit_once("key-1", &task).await.unwrap();
    assert_eq!(again.task_id(), ids[0]);
    let others = world.api.as_user("bob").submit_once("key-1", &task).await.unwrap();
    assert_ne!(others.task_id(), ids[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_concurrent_submits_with_one_key_create_one_job() {
    ten_at_once(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_concurrent_submits_with_one_key_create_one_gang() {
    ten_at_once(3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_cannot_be_used_for_another_task() {
    let world = World::new().await;
    let key = format!("key-{:x}", fastrand::u64(..));
    let task = TaskBuilder::new("true").name("a");
    assert_eq!(world.api.submit_once(&key, &task).await.unwrap().status, 200);
    for other in [TaskBuilder::new("false").name("a"), TaskBuilder::new("true").name("b")] {
        let detail = world.api.submit_once(&key, &other).await.unwrap().error(409);
        assert!(detail.contains("Idempotency-Key"), "{detail}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn submits_without_a_key_create_new_tasks() {
    let world = World::new().await;
    let ids = join_all((0..5).map(|_| world.api.run("true"))).await;
    let distinct: std::collections::HashSet<&String> = ids.iter().collect();
    assert_eq!(distinct.len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_submit_succeeds_while_its_volume_terminates() {
    let world = World::new().await;
    let volume = world.api.create_small_volume("going").await;
    let task = TaskBuilder::new("sleep 600").volume("/data", "going");
    let key = format!("key-{:x}", fastrand::u64(..));
    let id = world.api.submit_once(&key, &task).await.unwrap().task_id();
    world.api.wait_for(&id, TaskState::Running).await;
    assert_eq!(world.api.delete_volume(&volume).await.status, 200);
    assert_eq!(world.api.submit_once(&key, &task).await.unwrap().task_id(), id);
    assert_eq!(world.api.stop(&id).await.status, 200);
}
