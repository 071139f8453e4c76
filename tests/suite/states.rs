//! The state of a task, with the reason why it is pending or has failed.

use std::time::Duration;

use e2e::{Backend, TaskBuilder, World};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::DeleteParams;
use serde_json::json;
use task::TaskState;
use task::wire::TaskStatus;

fn assert_message_contains(status: &TaskStatus, text: &str) {
    let message = status.message.as_deref().unwrap();
    assert!(message.contains(text), "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_too_large_for_any_cluster_node_is_unschedulable() {
    let world = World::new().await;
    let id = world.api.submit(&TaskBuilder::new("true").cpus("1000000")).await;
    let status = world.api.wait_for_reason(&id, "Unschedulable").await;
    assert_eq!(status.status, TaskState::Pending);
    assert_message_contains(&status, "Insufficient cpu");
    assert_eq!(status.metadata.nodes[0].reason.as_deref(), Some("Unschedulable"));
    assert_eq!(status.metadata.pending_nodes, 1);
    // A follower waits, too, and ends when the task is stopped.
    let following = world.api.follow(&id).await;
    assert_eq!(following.status(), 200);
    assert_eq!(world.api.stop(&id).await.status, 200);
    assert_eq!(following.bytes().await.unwrap(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_image_pull_is_the_reason() {
    if Backend::Embedded.lacks("images are not used: the host is the image") {
        return;
    }
    let world = World::new().await;
    let image = "localhost:1/not/there:1";
    let id = world.api.submit(&TaskBuilder::new("true").image(image)).await;
    let has_failed_to_pull =
        |status: &TaskStatus| matches!(status.reason.as_deref(), Some("ErrImagePull" | "ImagePullBackOff"));
    let status = world
        .api
        .wait_for_status(&id, Duration::from_secs(60), "the pull to fail", has_failed_to_pull)
        .await;
    assert_eq!(status.status, TaskState::Pending);
    assert_message_contains(&status, image);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unbound_pvc_is_the_reason() {
    let world = World::new().await;
    world
        .api
        .create_volume(&json!({"name": "never", "size": "1Mi", "storage_class": "no-such-class"}))
        .await;
    let task = TaskBuilder::new("true").volume("/data", "never");
    let id = world.api.submit(&task).await;
    let status = world.api.wait_for_reason(&id, "Unschedulable").await;
    assert_message_contains(&status, "PersistentVolumeClaim");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exceeded_quota_is_the_reason() {
    let world = World::own(&[]).await;
    world.cluster.set_quota(json!({"pods": "0"})).await;
    let id = world.api.run("true").await;
    let status = world.api.wait_for_reason(&id, "FailedCreate").await;
    assert_eq!(status.status, TaskState::Pending);
    assert_message_contains(&status, "exceeded quota");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_task_names_the_node_and_its_exit_code() {
    let world = World::new().await;
    let task = TaskBuilder::new("exit $((NODE_RANK * 3))").nodes(2);
    let id = world.api.submit(&task).await;
    let status = world.api.wait_for(&id, TaskState::Failed).await;
    assert_eq!(
        status.message.as_deref(),
        Some("node 1: the container exited with code 3")
    );
    let both_ended = |status: &TaskStatus| {
        let nodes = &status.metadata.nodes;
        nodes[0].status == TaskState::Completed && nodes[1].exit_code == Some(3)
    };
    world
        .api
        .wait_for_status(&id, Duration::from_secs(60), "the other node to end", both_ended)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_exceeds_its_memory_is_oom_killed() {
    let world = World::new().await;
    let task = TaskBuilder::new("x=$(head -c 200000000 /dev/zero | tr '\\0' x)").memory("32Mi");
    let id = world.api.submit(&task).await;
    let status = world.api.wait_for(&id, TaskState::Failed).await;
    // Only a child process of the script may have been killed.
    let is_oom_killed = status.reason.as_deref() == Some("OOMKilled");
    assert!(
        is_oom_killed || status.metadata.nodes[0].exit_code == Some(137),
        "{status:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_pod_is_the_reason() {
    let world = World::new().await;
    let id = world.api.run("trap '' TERM; sleep 600").await;
    world.api.wait_for(&id, TaskState::Running).await;
    let pods = world.cluster.pods().await;
    let pod = pods
        .iter()
        .find(|pod| pod.labels().get("task-id") == Some(&id))
        .unwrap();
    let now = DeleteParams::default().grace_period(0);
    world.cluster.api::<Pod>().delete(&pod.name_any(), &now).await.unwrap();
    let status = world.api.wait_for(&id, TaskState::Failed).await;
    assert_eq!(status.reason.as_deref(), Some("PodDeleted"), "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_has_times_addresses_and_cluster_nodes() {
    let world = World::new().await;
    let id = world.api.run("true").await;
    let status = world.api.wait_for(&id, TaskState::Completed).await;
    let node = &status.metadata.nodes[0];
    for time in [
        &status.created_at,
        &status.updated_at,
        node.started_at.as_ref().unwrap(),
        node.finished_at.as_ref().unwrap(),
    ] {
        assert!(time.ends_with('Z'), "{status:?}");
    }
    assert_eq!(node.exit_code, Some(0));
    assert!(node.node_name.is_some() && node.pod_ip.is_some() && node.pod_name.is_some());
    assert_eq!(status.reason, None);
}
