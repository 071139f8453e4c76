//! Objects that an earlier version of the server created work with this version.
//!
//! `upgrade/objects.json` holds the objects of a volume, a gang with an `Idempotency-Key`, and a task of one node, as
//! `kubectl get -o json` returned them from a server of November 2026, without the fields that Kubernetes sets.

use std::time::Duration;

use e2e::{Cluster, World, eventually};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Service};
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use task::TaskState;

/// The IDs of the recorded tasks and the volume.
const GANG: &str = "pfptnmj6";
const SINGLE: &str = "26fiu93e";
const VOLUME: &str = "1f5fsbsm";

const COMMITTED: &str = "k8s-cli/committed";
const SUBMIT_DEADLINE: &str = "k8s-cli/submit-deadline";

fn recorded() -> Vec<Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/upgrade/objects.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Creates the recorded objects. The server must not see the gang before it is complete, so its owner is committed
/// last, as on submission.
async fn create_recorded(cluster: &Cluster) {
    let mut owner = None;
    for mut object in recorded() {
        if let (Some(reference), Some(uid)) = (object.pointer_mut("/metadata/ownerReferences/0"), &owner) {
            reference["uid"] = json!(uid);
        }
        let kind = object["kind"].as_str().unwrap().to_owned();
        match kind.as_str() {
            "PersistentVolumeClaim" => drop(cluster.make::<PersistentVolumeClaim>(object).await),
            "Service" => drop(cluster.make::<Service>(object).await),
            "Job" => drop(cluster.make::<Job>(object).await),
            "ConfigMap" => {
                let annotations = object["metadata"]["annotations"].as_object_mut().unwrap();
                assert!(annotations.remove(COMMITTED).is_some());
                annotations.remove(SUBMIT_DEADLINE);
                owner = cluster.make::<ConfigMap>(object).await.uid();
            }
            other => panic!("unexpected kind `{other}`"),
        }
    }
    let committed = json!({"metadata": {"annotations": {COMMITTED: "true"}}});
    let owners = cluster.api::<ConfigMap>();
    let name = format!("gang-{GANG}");
    owners
        .patch(&name, &PatchParams::default(), &Patch::Merge(&committed))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_and_volumes_of_an_earlier_version_are_understood() {
    let world = World::own(&[]).await;
    let api = &world.api;
    create_recorded(&world.cluster).await;
    eventually(Duration::from_secs(30), "the recorded tasks", async || {
        let mut ids = api.task_ids().await;
        ids.sort();
        (ids == [SINGLE, GANG]).then_some(())
    })
    .await;

    let volume = api.volume(VOLUME).await;
    assert_eq!((volume.name.as_str(), volume.size.as_str()), ("data", "1Gi"));

    let gang = api.wait_for(GANG, TaskState::Completed).await;
    assert_eq!(gang.name, "gang");
    assert_eq!(gang.created_at, "2026-11-26T08:16:27.567380Z");
    assert_eq!(gang.metadata.succeeded_nodes, 2);
    let log = api.log_text(GANG, "").await;
    for rank in 0..2 {
        for line in ["prepared".to_owned(), format!("node {rank} of 2")] {
            assert!(log.contains(&format!("node-{rank} | {line}\n")), "{log}");
        }
    }

    // A client that retries across the upgrade gets the same task.
    let task = json!({
        "name": "gang",
        "num_nodes": 2,
        "setup": "echo prepared",
        "run": "echo node $SKYPILOT_NODE_RANK of $SKYPILOT_NUM_NODES",
        "envs": {"A": "1"},
        "volumes": {"/data": "data"},
        "resources": {"cpus": "10m", "job_recovery": {"max_restarts_on_errors": 2}},
        "max_duration": "1h",
    });
    let repeated = api.submit_once("upgrade", &task).await.unwrap().ok();
    assert_eq!(repeated["task_id"], GANG);

    api.wait_for_log(SINGLE, |log| log == "one\n").await;
    assert_eq!(api.status(SINGLE).await.name, format!("task-{SINGLE}"));
    let _ = api.stop(SINGLE).await.ok();
    let _ = api.stop(GANG).await.ok();
    assert!(api.task_ids().await.is_empty());
    assert_eq!(api.delete_volume(VOLUME).await.status, 200);
}
