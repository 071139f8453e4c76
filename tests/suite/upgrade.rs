//! What an earlier version of the server created, this version understands.
//!
//! `upgrade/objects.json` holds the objects of a volume, a gang with an `Idempotency-Key`, and a task of one node, as
//! `kubectl get -o json` returned them from a server of November 2026, without the fields that Kubernetes sets.

use std::fmt::Debug;
use std::time::Duration;

use e2e::{Cluster, World, eventually};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Service};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
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

async fn create<K>(cluster: &Cluster, object: &Value) -> K
where
    K: Resource<Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Serialize + Debug,
    K::DynamicType: Default,
{
    let object: K = serde_json::from_value(object.clone()).unwrap();
    cluster.api().create(&PostParams::default(), &object).await.unwrap()
}

/// Creates the recorded objects. The server must not see the gang before it is complete, so its owner is committed
/// last, as on submission.
async fn create_recorded(cluster: &Cluster) {
    let mut owner = None;
    for mut object in recorded() {
        if let (Some(reference), Some(uid)) = (object.pointer_mut("/metadata/ownerReferences/0"), &owner) {
            reference["uid"] = json!(uid);
        }
        match object["kind"].as_str().unwrap() {
            "PersistentVolumeClaim" => drop(create::<PersistentVolumeClaim>(cluster, &object).await),
            "Service" => drop(create::<Service>(cluster, &object).await),
            "Job" => drop(create::<Job>(cluster, &object).await),
            "ConfigMap" => {
                let annotations = object["metadata"]["annotations"].as_object_mut().unwrap();
                assert!(annotations.remove(COMMITTED).is_some());
                annotations.remove(SUBMIT_DEADLINE);
                owner = create::<ConfigMap>(cluster, &object).await.uid();
            }
            other => panic!("no {other} was recorded"),
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
        assert!(log.contains("prepared"), "{log}");
        assert!(log.contains(&format!("node {rank} of 2")), "{log}");
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
    assert_eq!(api.delete(&format!("/volumes/{VOLUME}")).await.status, 200);
}
