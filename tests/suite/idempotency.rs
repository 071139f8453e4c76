//! A repeated request creates nothing twice.

use e2e::World;
use futures::future::join_all;
use serde_json::json;

async fn ten_at_once(num_nodes: u32) {
    let world = World::own(&[]).await;
    let task = json!({"name": "once", "num_nodes": num_nodes, "run": "true"});
    let answers = join_all((0..10).map(|_| world.api.submit_once("key-1", &task))).await;
    let mut ids: Vec<String> = answers
        .into_iter()
        .map(|answer| answer.unwrap().ok()["task_id"].as_str().unwrap().to_owned())
        .collect();
    ids.dedup();
    assert_eq!(ids.len(), 1, "{ids:?}");
    assert_eq!(world.cluster.all_jobs().await.len(), num_nodes as usize);
    assert_eq!(world.api.task_ids().await, ids);
    // Also later, and only for this user.
    assert_eq!(
        world.api.submit_once("key-1", &task).await.unwrap().ok()["task_id"],
        ids[0]
    );
    let others = world.api.as_user("bob").submit_once("key-1", &task).await.unwrap().ok();
    assert_ne!(others["task_id"], ids[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_ten_times_at_once_makes_one_job() {
    ten_at_once(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_ten_times_at_once_makes_one_task_of_three_nodes() {
    ten_at_once(3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_for_one_task() {
    let world = World::new().await;
    let key = format!("key-{:x}", fastrand::u64(..));
    assert_eq!(
        world
            .api
            .submit_once(&key, &json!({"name": "a", "run": "true"}))
            .await
            .unwrap()
            .status,
        200
    );
    for other in [
        json!({"name": "a", "run": "false"}),
        json!({"name": "b", "run": "true"}),
    ] {
        let detail = world.api.submit_once(&key, &other).await.unwrap().error(409);
        assert!(detail.contains("Idempotency-Key"), "{detail}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_without_a_key_are_new_tasks() {
    let world = World::new().await;
    let ids = join_all((0..5).map(|_| world.api.run("true"))).await;
    let distinct: std::collections::HashSet<&String> = ids.iter().collect();
    assert_eq!(distinct.len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_is_answered_when_the_volume_of_the_task_is_going() {
    let world = World::new().await;
    let volume = world.api.create_volume(&json!({"name": "going", "size": "1Mi"})).await;
    let task = json!({"run": "sleep 600", "volumes": {"/data": "going"}});
    let key = format!("key-{:x}", fastrand::u64(..));
    let first = world.api.submit_once(&key, &task).await.unwrap().ok();
    let id = first["task_id"].as_str().unwrap();
    world.api.wait_for(id, "running").await;
    assert_eq!(world.api.delete(&format!("/volumes/{volume}")).await.status, 200);
    assert_eq!(
        world.api.submit_once(&key, &task).await.unwrap().ok()["task_id"],
        first["task_id"]
    );
    assert_eq!(world.api.stop(id).await.status, 200);
}
