//! Objects in the namespace that have our labels but were not created by a server are not trusted.

use std::time::Duration;

use e2e::{Backend, TaskBuilder, World, eventually};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Event, PersistentVolumeClaim};
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use sha2::{Digest, Sha224};
use task::TaskState;

use crate::operations::metric;

fn user_label(user: &str) -> String {
    Sha224::digest(user).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A Job that claims to belong to a task.
fn job(name: &str, labels: Value, annotations: Value) -> Value {
    json!({
        "metadata": {"name": name, "labels": labels, "annotations": annotations},
        "spec": {"template": {
            "metadata": {"labels": labels},
            "spec": {"restartPolicy": "Never", "containers": [{
                "name": "task", "image": "docker.io/library/python:3.13-slim", "command": ["/bin/bash", "-c", "echo foreign"],
            }]},
        }},
    })
}

fn labels(id: &str, user: &str) -> Value {
    json!({"skypilot-task": "true", "task-id": id, "task-name": "train", "username": user, "k8s-cli/user": user_label(user)})
}

/// Waits until the server has seen all objects that exist now: it sees a new task only after them.
async fn wait_for_cache(world: &World) {
    let other = world.another(&world.kubeconfig(), &[]);
    let id = other.1.run("true").await;
    eventually(Duration::from_secs(20), "the server to have caught up", async || {
        (world.api.try_status(&id).await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_job_with_the_id_of_a_task_is_ignored() {
    let world = World::own(&[]).await;
    let single = world.api.run("echo mine; sleep 600").await;
    let gang = world
        .api
        .submit(&TaskBuilder::new("echo mine; sleep 600").nodes(2))
        .await;
    world.api.wait_for(&single, TaskState::Running).await;
    world.api.wait_for_nodes(&gang, TaskState::Running).await;
    // A node runs before its script has written anything.
    for (id, lines) in [(&single, 1), (&gang, 2)] {
        world
            .api
            .wait_for_log(id, |log| log.matches("mine").count() == lines)
            .await;
    }
    let before = world.cluster.all_jobs().await;
    for id in [&single, &gang] {
        let ours = world.cluster.jobs(id).await.remove(0);
        let (of_job, all) = (json!(ours.labels()), json!(ours.annotations()));
        let mut copied = all.clone();
        copied["k8s-cli/attempt"] = "12".into();
        copied["k8s-cli/gang"] = "start".into();
        let mut renamed = all.clone();
        renamed["k8s-cli/name"] = "other".into();
        for (index, (labels, annotations)) in [
            (
                labels(id, "mallory"),
                json!({"k8s-cli/username": "mallory", "k8s-cli/attempt": "12", "k8s-cli/gang": "start"}),
            ),
            (labels(id, "mallory"), copied.clone()),
            (of_job.clone(), copied.clone()),
            (of_job.clone(), renamed),
            (
                json!({"skypilot-task": "true", "task-id": id, "username": "alice-example.com"}),
                json!({}),
            ),
        ]
        .into_iter()
        .enumerate()
        {
            let mut foreign = job(&format!("foreign-{index}-{id}"), labels, annotations);
            foreign["metadata"]["ownerReferences"] = json!(ours.owner_references());
            let _: Job = world.cluster.make(foreign).await;
        }
        // The Job of the next attempt, exactly as a server creates it.
        let rank = if *id == single { "-node-0" } else { "" };
        let mut next = job(&format!("{}{rank}-attempt-2", ours.name_any()), of_job, copied);
        next["metadata"]["annotations"]["k8s-cli/attempt"] = "2".into();
        next["metadata"]["ownerReferences"] = json!(ours.owner_references());
        let _: Job = world.cluster.make(next).await;
    }
    wait_for_cache(&world).await;
    for id in [&single, &gang] {
        let status = world.api.status(id).await;
        assert_eq!(
            (status.status, status.username.as_str()),
            (TaskState::Running, "alice@example.com")
        );
        assert_eq!(status.metadata.attempts, [], "{status:?}");
        let log = world.api.log_text(id, "?follow=false").await;
        assert!(log.contains("mine") && !log.contains("foreign"), "{log}");
    }
    let mallory = world.api.as_user("mallory");
    for id in [&single, &gang] {
        let _ = mallory.stop(id).await;
        assert_eq!(world.api.status(id).await.status, TaskState::Running);
    }
    let listed = world.api.task_ids().await;
    assert_eq!(
        listed.iter().filter(|id| **id == single || **id == gang).count(),
        2,
        "{listed:?}"
    );
    let after: Vec<_> = world
        .cluster
        .all_jobs()
        .await
        .iter()
        .filter_map(ResourceExt::uid)
        .collect();
    assert!(
        before.iter().all(|job| after.contains(&job.uid().unwrap())),
        "a Job of the tasks is gone"
    );
}

/// Waits until a second has just begun, so that what follows is created within it.
async fn turn_of_second() {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    tokio::time::sleep(Duration::from_millis(1010 - u64::from(now.unwrap().subsec_millis()))).await;
}

/// Kubernetes only knows the second in which an object was created, so the order of two in one second must not matter.
#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_not_taken_over_in_the_second_of_its_submit() {
    let world = World::own(&[]).await;
    for key in [None, Some("key")] {
        for number in 0..3 {
            turn_of_second().await;
            let mut request = world.api.request(reqwest::Method::POST, "/tasks/submit");
            if let Some(key) = key {
                request = request.header("idempotency-key", format!("{key}-{number}"));
            }
            let response = request
                .json(&json!({"run": "echo mine; sleep 600"}))
                .send()
                .await
                .unwrap();
            let id = response.json::<Value>().await.unwrap()["task_id"]
                .as_str()
                .unwrap()
                .to_owned();
            take_over(&world, &id).await;
            wait_for_cache(&world).await;
            let _ = world.api.wait_for_log(&id, |log| !log.is_empty()).await;
            let status = world.api.status(&id).await;
            assert_eq!(
                (status.status, status.metadata.nodes[0].attempt),
                (TaskState::Running, 1),
                "{status:?}"
            );
            assert_eq!(world.api.log_text(&id, "?follow=false").await, "mine\n", "{key:?}");
            let _ = world.api.stop(&id).await.ok();
        }
    }
}

/// Creates what somebody would who wants their Job to be that of a task: an owner, and the Job of its second attempt.
async fn take_over(world: &World, id: &str) {
    let ours = world.cluster.jobs(id).await.remove(0);
    let mut annotations = json!(ours.annotations());
    annotations["k8s-cli/committed"] = "true".into();
    let owner = json!({"metadata": {
        "name": format!("task-{id}-{id}"), "labels": ours.labels(), "annotations": annotations,
    }});
    let mut owners = vec![owner.clone()];
    owners.push(owner);
    owners[1]["metadata"]["name"] = format!("task-{id}").into();
    for owner in owners {
        let name = owner["metadata"]["name"].as_str().unwrap().to_owned();
        // Its name may be taken, which is well.
        let owner: ConfigMap = serde_json::from_value(owner).unwrap();
        let Ok(made) = world
            .cluster
            .api::<ConfigMap>()
            .create(&Default::default(), &owner)
            .await
        else {
            continue;
        };
        let mut annotations = json!(ours.annotations());
        annotations["k8s-cli/attempt"] = "2".into();
        let mut planted = job(&format!("{name}-node-0-attempt-2"), json!(ours.labels()), annotations);
        planted["metadata"]["ownerReferences"] =
            json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": made.uid()}]);
        let planted: Job = serde_json::from_value(planted).unwrap();
        let _ = world.cluster.api::<Job>().create(&Default::default(), &planted).await;
    }
}

/// The log and the requests for a task must not go to somebody who knows only its ID.
#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_not_hidden_by_one_with_its_id_after_a_restart() {
    let mut world = World::own(&[]).await;
    let mut ids = Vec::new();
    for _ in 0..4 {
        turn_of_second().await;
        let id = world.api.run("echo mine; sleep 600").await;
        let annotations = json!({
            "k8s-cli/username": "alice@example.com", "k8s-cli/submission": "0", "k8s-cli/name": "aaa",
        });
        let mut labels = labels(&id, "alice-example.com");
        labels["task-name"] = "aaa".into();
        labels["k8s-cli/user"] = user_label("alice@example.com").into();
        let _: Job = world.cluster.make(job(&format!("aaa-{id}"), labels, annotations)).await;
        ids.push(id);
    }
    let server = world.server();
    server.kill();
    server.restart();
    for id in &ids {
        let status = world.api.wait_for(id, TaskState::Running).await;
        assert_eq!(status.name, format!("task-{id}"), "{status:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_config_map_with_the_id_of_a_task_is_kept() {
    let world = World::own(&[]).await;
    let single = world.api.run("sleep 600").await;
    let gang = world.api.submit(&TaskBuilder::new("sleep 600").nodes(2)).await;
    world.api.wait_for_nodes(&gang, TaskState::Running).await;
    let owner = world.cluster.owners().await.remove(0);
    let mut copied = json!(owner.annotations());
    copied.as_object_mut().unwrap().remove("k8s-cli/committed");
    copied["k8s-cli/submit-deadline"] = "2020-01-01T00:00:00Z".into();
    for (index, (labels, annotations)) in [
        (labels(&gang, "mallory"), json!({})),
        (labels(&single, "mallory"), json!({})),
        (
            json!({"skypilot-task": "true", "task-id": gang}),
            json!({"k8s-cli/submit-deadline": "2020-01-01T00:00:00Z"}),
        ),
        (json!(owner.labels()), copied),
    ]
    .into_iter()
    .enumerate()
    {
        let foreign =
            json!({"metadata": {"name": format!("foreign-{index}"), "labels": labels, "annotations": annotations}});
        let _: ConfigMap = world.cluster.make(foreign).await;
    }
    wait_for_cache(&world).await;
    // One that a server could have left behind is deleted, so the others were checked, too.
    let (mut of_ours, mut abandoned) = (json!(owner.labels()), json!(owner.annotations()));
    // A token of our own servers belongs to one ID.
    abandoned["k8s-cli/submission"] = "abandoned".into();
    of_ours["task-id"] = "abandon1".into();
    abandoned.as_object_mut().unwrap().remove("k8s-cli/committed");
    abandoned["k8s-cli/submit-deadline"] = "2020-01-01T00:00:00Z".into();
    let name = format!("{}-abandon1", abandoned["k8s-cli/name"].as_str().unwrap());
    let left_behind = json!({"metadata": {"name": name, "labels": of_ours, "annotations": abandoned}});
    let _: ConfigMap = world.cluster.make(left_behind).await;
    world
        .cluster
        .wait_until_gone::<ConfigMap>(Duration::from_secs(30), &name)
        .await;
    for id in [&single, &gang] {
        assert_eq!(world.api.status(id).await.status, TaskState::Running);
    }
    let left = world
        .cluster
        .api::<ConfigMap>()
        .list(&kube::api::ListParams::default())
        .await
        .unwrap();
    let left = left
        .items
        .iter()
        .filter(|object| object.name_any().starts_with("foreign-"))
        .count();
    assert_eq!(left, 4, "foreign objects must not be deleted");
}

#[tokio::test(flavor = "multi_thread")]
async fn annotations_with_impossible_numbers_are_ignored() {
    let mut world = World::own(&[]).await;
    let id = world.api.run("sleep 600").await;
    let ours = world.cluster.jobs(&id).await.remove(0);
    for (index, (key, number)) in [
        ("num-nodes", "4294967295"),
        ("num-nodes", "2000000"),
        ("k8s-cli/attempt", "4294967295"),
        ("k8s-cli/max-duration", "4294967295"),
        ("k8s-cli/max-restarts-on-errors", "4294967295"),
        ("k8s-cli/ended-because-of-node", "4294967295"),
        ("k8s-cli/gave-way", "4294967295"),
        ("created-at", "-9999-01-01T00:00:00Z"),
    ]
    .into_iter()
    .enumerate()
    {
        for (labels, all) in [
            (json!(ours.labels()), json!(ours.annotations())),
            (
                json!({"skypilot-task": "true", "task-id": format!("python{index:02}"), "username": "alice-example.com"}),
                json!({}),
            ),
        ] {
            let mut annotations = all;
            annotations[key] = number.into();
            let name = format!("foreign-{index}-{:x}", fastrand::u32(..));
            let _: Job = world.cluster.make(job(&name, labels, annotations)).await;
        }
    }
    wait_for_cache(&world).await;
    assert_eq!(world.api.status(&id).await.metadata.num_nodes, 1);
    let size = world.api.get("/tasks?all_users=true").await.ok().to_string().len();
    assert!(size < 100_000, "{size} bytes");
    world.server().kill();
    world.server().restart();
    assert_eq!(world.api.status(&id).await.metadata.num_nodes, 1);
    assert!(metric(&world.api, "process_resident_memory_bytes").await.unwrap() < 200e6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_event_is_not_the_message_of_a_task() {
    let world = World::own(&[]).await;
    let id = world.api.submit(&TaskBuilder::new("true").cpus("1000000")).await;
    world.api.wait_for_reason(&id, "Unschedulable").await;
    let job = world.cluster.jobs(&id).await.remove(0);
    for (reason, component) in [("FailedCreate", "mallory"), ("Scam", "")] {
        let event = json!({
            "metadata": {"name": format!("forged-{}", reason.to_lowercase())}, "type": "Warning", "reason": reason,
            "message": "send your password to mallory", "source": {"component": component},
            "involvedObject": {"kind": "Job", "namespace": world.cluster.namespace, "name": job.name_any(), "uid": job.uid()},
        });
        let _: Event = world.cluster.make(event).await;
    }
    wait_for_cache(&world).await;
    let status = world.api.try_status(&id).await.ok().to_string();
    assert!(!status.contains("mallory"), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_hidden_only_while_a_label_is_removed() {
    let world = World::own(&[]).await;
    let id = world.api.run("sleep 600").await;
    let gang = world.api.submit(&TaskBuilder::new("sleep 600").nodes(2)).await;
    world.api.wait_for(&id, TaskState::Running).await;
    world.api.wait_for_nodes(&gang, TaskState::Running).await;
    let set = async |name: &str, label: &str, value: Value| {
        let change = Patch::Merge(json!({"metadata": {"labels": {label: value}}}));
        world
            .cluster
            .api::<Job>()
            .patch(name, &PatchParams::default(), &change)
            .await
            .unwrap();
    };
    let shown = async |id: &str, status: u16| {
        eventually(Duration::from_secs(20), &format!("{id} to be {status}"), async || {
            (world.api.try_status(id).await.status == status).then_some(())
        })
        .await;
    };
    let name = world.cluster.jobs(&id).await[0].name_any();
    for (label, away, back) in [
        ("skypilot-task", Value::Null, json!("true")),
        ("task-id", json!("phantom1"), json!(id)),
        (
            "k8s-cli/user",
            json!(user_label("mallory")),
            json!(user_label("alice@example.com")),
        ),
    ] {
        set(&name, label, away).await;
        shown(&id, 404).await;
        assert_eq!(world.api.try_status("phantom1").await.status, 404);
        set(&name, label, back).await;
        shown(&id, 200).await;
        world.api.wait_for(&id, TaskState::Running).await;
    }
    // A Job that has lost its label was not deleted.
    let node = world.cluster.jobs(&gang).await[1].name_any();
    set(&node, "skypilot-task", Value::Null).await;
    tokio::time::sleep(Duration::from_secs(8)).await;
    set(&node, "skypilot-task", json!("true")).await;
    world.api.wait_for_nodes(&gang, TaskState::Running).await;
    assert_eq!(world.api.status(&gang).await.status, TaskState::Running);
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_have_no_token_without_a_service_account() {
    let world = World::own(&[]).await;
    world.api.run("true").await;
    let [job] = world.cluster.all_jobs().await.try_into().unwrap();
    let pod = job.spec.unwrap().template.spec.unwrap();
    assert_eq!(
        (pod.automount_service_account_token, pod.service_account_name),
        (Some(false), None)
    );
    let named = World::own(&["--service-account", "default"]).await;
    named.api.run("true").await;
    let [job] = named.cluster.all_jobs().await.try_into().unwrap();
    let pod = job.spec.unwrap().template.spec.unwrap();
    assert_eq!(pod.service_account_name.as_deref(), Some("default"));
    assert_ne!(pod.automount_service_account_token, Some(false));
}

#[tokio::test(flavor = "multi_thread")]
async fn shared_claims_decides_which_foreign_pvcs_are_mounted() {
    let world = World::own(&["--shared-claims", "labelled"]).await;
    for (name, labels) in [("database", json!({})), ("datasets", json!({"k8s-cli/shared": "true"}))] {
        let claim = json!({
            "metadata": {"name": name, "labels": labels},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}},
        });
        let _: PersistentVolumeClaim = world.cluster.make(claim).await;
    }
    let mounts = |name: &str| TaskBuilder::new("true").volume("/data", name);
    assert_eq!(world.api.try_submit(&mounts("database")).await.status, 422);
    assert_eq!(world.api.try_submit(&mounts("datasets")).await.status, 200);
    let open = World::own(&[]).await;
    if Backend::chosen() == Backend::Embedded {
        let claim = json!({
            "metadata": {"name": "database"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}},
        });
        let _: PersistentVolumeClaim = open.cluster.make(claim).await;
        assert_eq!(open.api.try_submit(&mounts("database")).await.status, 200);
    }
}
