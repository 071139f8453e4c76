//! Volumes: who may use which, and what happens to a volume in use.

use std::time::Duration;

use e2e::{TaskBuilder, World, eventually};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use serde_json::json;
use task::TaskState;

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_keeps_data_between_tasks_at_several_paths() {
    let world = World::new().await;
    world.api.create_small_volume("data").await;
    let writer = TaskBuilder::new("echo kept >/a/file; cat /b/file")
        .volume("/a", "data")
        .volume("/b", "data");
    let id = world.api.submit(&writer).await;
    assert_eq!(world.api.log_text(&id, "").await, "kept\n");
    let reader = TaskBuilder::new("cat /c/file").volume("/c", "data");
    let id = world.api.submit(&reader).await;
    assert_eq!(world.api.log_text(&id, "").await, "kept\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn null_access_modes_are_the_default_and_empty_ones_invalid() {
    let world = World::new().await;
    let id = world
        .api
        .create_volume(&json!({"name": "v", "size": "1Mi", "access_modes": null}))
        .await;
    assert_eq!(world.api.volume(&id).await.access_modes, ["ReadWriteOnce"]);
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
async fn a_task_with_an_unknown_volume_is_rejected() {
    let world = World::new().await;
    for name in ["nope", "Not/A/Name", "../pods", "."] {
        let task = TaskBuilder::new("x").volume("/data", name);
        let answer = world.api.try_submit(&task).await;
        let (path, _, message) = answer.invalid();
        assert_eq!(path, "body.volumes./data");
        assert!(message.contains(&format!("volume \"{name}\" not found")), "{message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pvc_is_usable_by_its_owner_or_by_all_without_owner() {
    let world = World::new().await;
    let name = format!("shared-{:08x}", fastrand::u32(..));
    let claim = json!({"metadata": {"name": name}, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}},
    }});
    let _: PersistentVolumeClaim = world.cluster.make(claim).await;
    let shared = TaskBuilder::new("echo mounted >/data/file; cat /data/file").volume("/data", &name);
    let id = world.api.submit(&shared).await;
    assert_eq!(world.api.log_text(&id, "").await, "mounted\n");

    let id = world.api.create_small_volume("own").await;
    let pvc = world.api.volume(&id).await.metadata.pvc_name;
    let task = TaskBuilder::new("true").volume("/data", &pvc);
    world.api.submit(&task).await;
    for other in ["bob", "alice-example.com"] {
        let answer = world.api.as_user(other).try_submit(&task).await;
        assert!(answer.invalid().2.contains("not found"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_in_use_is_deleted_when_its_tasks_end() {
    let world = World::new().await;
    let volume = world.api.create_small_volume("busy").await;
    let task = TaskBuilder::new("sleep 600").volume("/data", "busy");
    let id = world.api.submit(&task).await;
    world.api.wait_for(&id, TaskState::Running).await;
    let answer = world.api.delete_volume(&volume).await.ok();
    assert_eq!(
        answer["message"],
        format!("Volume {volume} will be deleted when task {id} finishes")
    );
    assert_eq!(world.api.volume(&volume).await.status, "Terminating");
    let (_, _, message) = world.api.try_submit(&task).await.invalid();
    assert!(message.contains("not found"), "{message}");
    assert_eq!(world.api.stop(&id).await.status, 200);
    eventually(Duration::from_secs(60), "the volume to be deleted", async || {
        (world.api.try_volume(&volume).await.status == 404).then_some(())
    })
    .await;
    assert!(world.cluster.claim(&volume).await.is_none());
}
