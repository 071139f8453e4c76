//! True states: what keeps a task from running, and why it failed.

use std::time::Duration;

use e2e::{Backend, World, eventually};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::DeleteParams;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_no_machine_can_take_is_pending_and_says_why() {
    let world = World::new().await;
    let id = world
        .api
        .submit(&json!({"run": "true", "resources": {"cpus": "1000000"}}))
        .await;
    let status = world.api.wait_for_reason(&id, "Unschedulable").await;
    assert_eq!(status["status"], "pending");
    assert!(
        status["message"].as_str().unwrap().contains("Insufficient cpu"),
        "{status}"
    );
    assert_eq!(status["metadata"]["nodes"][0]["reason"], "Unschedulable");
    assert_eq!(status["metadata"]["pending_nodes"], 1);
    // A follower waits with it, and ends when it is stopped.
    let following = tokio::spawn({
        let (api, id) = (world.api.clone(), id.clone());
        async move { api.log_text(&id, "").await }
    });
    assert_eq!(world.api.stop(&id).await.status, 200);
    assert_eq!(following.await.unwrap(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_whose_image_cannot_be_pulled_says_so() {
    if Backend::Embedded.lacks("images are not used: the host is the image") {
        return;
    }
    let world = World::new().await;
    let id = world
        .api
        .submit(&json!({"run": "true", "resources": {"image_id": "localhost:1/not/there:1"}}))
        .await;
    let status = eventually(Duration::from_secs(60), "the pull to fail", async || {
        let status = world.api.status(&id).await;
        matches!(status["reason"].as_str(), Some("ErrImagePull" | "ImagePullBackOff")).then_some(status)
    })
    .await;
    assert_eq!(status["status"], "pending");
    assert!(
        status["message"].as_str().unwrap().contains("localhost:1/not/there:1"),
        "{status}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_whose_volume_is_not_bound_says_so() {
    let world = World::new().await;
    world
        .api
        .create_volume(&json!({"name": "never", "size": "1Mi", "storage_class": "no-such-class"}))
        .await;
    let id = world
        .api
        .submit(&json!({"run": "true", "volumes": {"/data": "never"}}))
        .await;
    let status = world.api.wait_for_reason(&id, "Unschedulable").await;
    assert!(
        status["message"].as_str().unwrap().contains("PersistentVolumeClaim"),
        "{status}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_whose_pods_a_quota_forbids_says_so() {
    let world = World::own(&[]).await;
    world.cluster.limit(json!({"pods": "0"})).await;
    let id = world.api.run("true").await;
    let status = world.api.wait_for_reason(&id, "FailedCreate").await;
    assert_eq!(status["status"], "pending");
    assert!(
        status["message"].as_str().unwrap().contains("exceeded quota"),
        "{status}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_task_says_which_node_and_why() {
    let world = World::new().await;
    let id = world
        .api
        .submit(&json!({"num_nodes": 2, "run": "exit $((NODE_RANK * 3))"}))
        .await;
    let status = world.api.wait_for(&id, "failed").await;
    assert_eq!(status["message"], "node 1: the container exited with code 3");
    eventually(Duration::from_secs(60), "the other node to end", async || {
        let status = world.api.status(&id).await;
        let nodes = &status["metadata"]["nodes"];
        (nodes[0]["status"] == "completed" && nodes[1]["exit_code"] == 3).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_needs_more_memory_than_it_asked_for_says_so() {
    let world = World::new().await;
    let task = json!({"run": "x=$(head -c 200000000 /dev/zero | tr '\\0' x)", "resources": {"memory": "32Mi"}});
    let id = world.api.submit(&task).await;
    let status = world.api.wait_for(&id, "failed").await;
    // The script may live on and see only that its child was killed.
    let node = &status["metadata"]["nodes"][0];
    assert!(status["reason"] == "OOMKilled" || node["exit_code"] == 137, "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_whose_pod_is_deleted_says_so() {
    let world = World::new().await;
    let id = world.api.run("trap '' TERM; sleep 600").await;
    world.api.wait_for(&id, "running").await;
    let pods = world.cluster.pods().await;
    let pod = pods
        .iter()
        .find(|pod| pod.labels().get("task-id") == Some(&id))
        .unwrap();
    let now = DeleteParams::default().grace_period(0);
    world.cluster.api::<Pod>().delete(&pod.name_any(), &now).await.unwrap();
    let status = world.api.wait_for(&id, "failed").await;
    assert_eq!(status["reason"], "PodDeleted", "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn times_and_nodes_are_told() {
    let world = World::new().await;
    let id = world.api.run("true").await;
    let status = world.api.wait_for(&id, "completed").await;
    let node = &status["metadata"]["nodes"][0];
    for time in [
        &status["created_at"],
        &status["updated_at"],
        &node["started_at"],
        &node["finished_at"],
    ] {
        assert!(time.as_str().unwrap().ends_with('Z'), "{status}");
    }
    assert_eq!(node["exit_code"], 0);
    assert!(node["node_name"].is_string() && node["pod_ip"].is_string() && node["pod_name"].is_string());
    assert_eq!(status["reason"], json!(null));
}
