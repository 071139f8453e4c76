//! Volumes: who may use which, and what happens to a volume in use.

use std::time::Duration;

use e2e::{World, eventually};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_keeps_data_from_task_to_task_at_any_number_of_paths() {
    let world = World::new().await;
    world.api.create_volume(&json!({"name": "data", "size": "1Mi"})).await;
    let writer = json!({"volumes": {"/a": "data", "/b": "data"}, "run": "echo kept >/a/file; cat /b/file"});
    let id = world.api.submit(&writer).await;
    assert_eq!(world.api.log_text(&id, "").await, "kept\n");
    let id = world
        .api
        .submit(&json!({"volumes": {"/c": "data"}, "run": "cat /c/file"}))
        .await;
    assert_eq!(world.api.log_text(&id, "").await, "kept\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn access_modes_that_are_null_mean_the_default_and_none_are_refused() {
    let world = World::new().await;
    let id = world
        .api
        .create_volume(&json!({"name": "v", "size": "1Mi", "access_modes": null}))
        .await;
    let status = world.api.get(&format!("/volumes/{id}")).await.ok();
    assert_eq!(status["access_modes"], json!(["ReadWriteOnce"]));
    let answer = world
        .api
        .post(
            "/volumes/create",
            &json!({"name": "v", "size": "1Mi", "access_modes": []}),
        )
        .await;
    assert_eq!(answer.invalid().0, "body.access_modes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_names_a_volume_which_is_not_there_is_refused() {
    let world = World::new().await;
    for name in ["nope", "Not/A/Name", "../pods", "."] {
        let answer = world
            .api
            .post("/tasks/submit", &json!({"run": "x", "volumes": {"/data": name}}))
            .await;
        let (path, _, message) = answer.invalid();
        assert_eq!(path, "body.volumes./data");
        assert!(message.contains(&format!("volume \"{name}\" not found")), "{message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_can_be_used_by_its_owner_or_when_it_has_none() {
    let world = World::new().await;
    let name = format!("shared-{:08x}", fastrand::u32(..));
    let claim = json!({"metadata": {"name": name}, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}},
    }});
    let _: PersistentVolumeClaim = world.cluster.make(claim).await;
    let shared = json!({"volumes": {"/data": name}, "run": "echo mounted >/data/file; cat /data/file"});
    let id = world.api.submit(&shared).await;
    assert_eq!(world.api.log_text(&id, "").await, "mounted\n");

    let id = world.api.create_volume(&json!({"name": "own", "size": "1Mi"})).await;
    let status = world.api.get(&format!("/volumes/{id}")).await.ok();
    let literal = status["metadata"]["pvc_name"].as_str().unwrap();
    let task = json!({"volumes": {"/data": literal}, "run": "true"});
    world.api.submit(&task).await;
    for other in ["bob", "alice-example.com"] {
        let answer = world.api.as_user(other).post("/tasks/submit", &task).await;
        assert!(answer.invalid().2.contains("not found"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_in_use_goes_when_its_tasks_end() {
    let world = World::new().await;
    let volume = world.api.create_volume(&json!({"name": "busy", "size": "1Mi"})).await;
    let task = json!({"volumes": {"/data": "busy"}, "run": "sleep 600"});
    let id = world.api.submit(&task).await;
    world.api.wait_for(&id, "running").await;
    let answer = world.api.delete(&format!("/volumes/{volume}")).await.ok();
    assert_eq!(
        answer["message"],
        format!("Volume {volume} will be deleted when task {id} finishes")
    );
    let status = world.api.get(&format!("/volumes/{volume}")).await.ok();
    assert_eq!(status["status"], "Terminating");
    assert!(
        world
            .api
            .post("/tasks/submit", &task)
            .await
            .invalid()
            .2
            .contains("not found")
    );
    assert_eq!(world.api.stop(&id).await.status, 200);
    eventually(Duration::from_secs(60), "the volume to be deleted", async || {
        (world.api.get(&format!("/volumes/{volume}")).await.status == 404).then_some(())
    })
    .await;
    assert!(world.cluster.claim(&volume).await.is_none());
}
