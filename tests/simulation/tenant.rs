//! Another tenant of the namespace, who creates objects that may confuse the servers, and removes labels from their
//! objects and restores them.

use std::sync::Arc;

use fastrand::Rng;
use http::Method;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::clients::user;
use super::direct::{CONFIG_MAPS, EVENTS, JOBS, PODS};
use super::history::{FOREIGN, Kind, Object};
use super::sim::{Sim, between, happens, pause};

const MALLORY: &str = "mallory";

/// Lets the tenant interfere until the simulation gets quiet. `chance` is the probability of each step.
pub(crate) async fn interfere(sim: Arc<Sim>, chance: f64) {
    // Another text would change the course of all seeds.
    let mut random = sim.random("stranger");
    let mut number = 0;
    while sim.is_active() {
        pause(&mut random, 100, 4000).await;
        let what = random.u8(0..8);
        let victim = victim(&sim, &mut random);
        let Some(victim) = victim.filter(|_| happens(&mut random, chance)) else {
            continue;
        };
        number += 1;
        match what {
            0 => copy_job(&sim, &victim, number, &mut random).await,
            1 => copy_owner(&sim, &victim, &mut random).await,
            2 => claim_id(&sim, &victim, number, &mut random).await,
            3 => copy_pod(&sim, &victim, number).await,
            4 => forge_event(&sim, &victim, number).await,
            5 => create_config_map(&sim, &victim, number).await,
            _ => remove_label(&sim, &victim, &mut random).await,
        }
    }
}

/// An existing object of a server: the latest in half of all cases, otherwise any.
fn victim(sim: &Sim, random: &mut Rng) -> Option<Object> {
    let history = sim.history();
    let mut all: Vec<&Object> = history
        .all()
        .filter(|object| !object.is_foreign && object.exists())
        .collect();
    all.sort_by_key(|object| object.created_at);
    let (any, is_newest) = (random.usize(..), random.bool());
    let last = all.len().checked_sub(1)?;
    Some(all[if is_newest { last } else { any % all.len() }].clone())
}

/// Marks an object as foreign for the checks; servers ignore the mark.
fn marked(mut object: Value) -> Value {
    object["metadata"]["annotations"][FOREIGN] = "true".into();
    object["spec"]["template"]["metadata"]["annotations"][FOREIGN] = "true".into();
    object
}

async fn create(sim: &Sim, path: &str, object: &Value, what: &str) {
    let created = sim.direct.send(Method::POST, path, object).await;
    let outcome = match &created {
        Ok(created) => format!("{} {}", created["metadata"]["name"], created["metadata"]["uid"]),
        Err(status) => status["message"].to_string(),
    };
    sim.log(|| format!("the tenant creates {what}: {outcome}"));
}

/// Copies an object without the fields that Kubernetes has set.
fn copied(object: &Object) -> Value {
    let mut copy = Value::clone(&object.value);
    let metadata = &copy["metadata"];
    let kept = json!({
        "name": metadata["name"], "labels": metadata["labels"], "annotations": metadata["annotations"],
        "ownerReferences": metadata["ownerReferences"],
    });
    copy["metadata"] = kept;
    if let Some(copy) = copy.as_object_mut() {
        copy.remove("status");
    }
    copy
}

fn become_mallory(object: &mut Value) {
    object["metadata"]["labels"]["k8s-cli/user"] = executor::user_key::user_label(&user(MALLORY)).into();
    object["metadata"]["labels"]["username"] = MALLORY.into();
    object["metadata"]["annotations"]["k8s-cli/username"] = MALLORY.into();
}

/// Creates a suspended copy of a Job: of another user, with another name, or as a distant attempt.
async fn copy_job(sim: &Sim, victim: &Object, number: usize, random: &mut Rng) {
    let job = sim.history().of(Kind::Job, &victim.task).next().cloned();
    let Some(job) = job else { return };
    let mut copy = copied(&job);
    let spec = &copy["spec"]["template"]["spec"];
    copy["spec"] = json!({"suspend": true, "backoffLimit": 0, "template": {"spec": {
        "restartPolicy": "Never", "containers": spec["containers"], "volumes": spec["volumes"],
    }}});
    let is_mallorys = random.bool();
    if is_mallorys {
        become_mallory(&mut copy);
    }
    let attempt = random.u32(7..100);
    let name = match random.u8(0..3) {
        0 => format!("copy-{number}"),
        1 => {
            copy["metadata"]["annotations"]["k8s-cli/attempt"] = attempt.to_string().into();
            format!("task-of-{}-node-{}-attempt-{attempt}", job.task, job.rank)
        }
        _ => {
            copy["metadata"]["annotations"]["k8s-cli/attempt"] = attempt.to_string().into();
            let exact = job.annotation("k8s-cli/name").unwrap_or_default();
            format!("{exact}-{}-node-{}-attempt-{attempt}", job.task, job.rank)
        }
    };
    copy["metadata"]["name"] = name.into();
    if random.bool() {
        copy["metadata"]["annotations"]["num-nodes"] = random.u32(2..100_000).to_string().into();
    }
    let whose = if is_mallorys { "its own" } else { "another" };
    create(
        sim,
        JOBS,
        &marked(copy),
        &format!("a Job like {} of {whose} user", job.name),
    )
    .await;
}

/// Creates a copy of the owner of a task, with the other name that an owner may have.
async fn copy_owner(sim: &Sim, victim: &Object, random: &mut Rng) {
    let object = {
        let history = sim.history();
        let task = history.task(&victim.task);
        task.owner.or_else(|| task.jobs.first().copied()).cloned()
    };
    let Some(object) = object else { return };
    let mut copy = copied(&object);
    if let Some(copy) = copy.as_object_mut() {
        copy.remove("spec");
    }
    copy["apiVersion"] = "v1".into();
    copy["kind"] = "ConfigMap".into();
    let exact = object.annotation("k8s-cli/name").unwrap_or_default().to_owned();
    copy["metadata"]["name"] = format!("{exact}-{}", object.task).into();
    copy["metadata"]["ownerReferences"] = Value::Null;
    copy["metadata"]["annotations"]["k8s-cli/committed"] = "true".into();
    copy["metadata"]["annotations"]["k8s-cli/turn"] = format!("{} waiting", random.u32(1..50)).into();
    if random.bool() {
        become_mallory(&mut copy);
    }
    copy["metadata"]["annotations"][FOREIGN] = "true".into();
    create(sim, CONFIG_MAPS, &copy, &format!("an owner for {}", object.task)).await;
}

/// Creates a valid Job of the tenant with the ID of a task.
async fn claim_id(sim: &Sim, victim: &Object, number: usize, random: &mut Rng) {
    let nodes = random.u32(1..1001);
    let name = format!("mine{number}");
    let object = json!({
        "metadata": {
            "name": if nodes == 1 { format!("{name}-{}", victim.task) } else { format!("{name}-{}-node-0", victim.task) },
            "labels": {"skypilot-task": "true", "task-id": victim.task, "task-name": name, "node-idx": "0"},
            "annotations": {"k8s-cli/name": name, "k8s-cli/submission": format!("token{number}"), "num-nodes": nodes.to_string()},
        },
        "spec": {"suspend": true, "template": {"spec": {
            "restartPolicy": "Never", "containers": [{"name": "task", "image": "none"}],
        }}},
    });
    let mut object = marked(object);
    become_mallory(&mut object);
    create(sim, JOBS, &object, &format!("a Job of its own as {}", victim.task)).await;
}

/// Creates a pod with the labels of a task and without a Job.
async fn copy_pod(sim: &Sim, victim: &Object, number: usize) {
    let pod = sim.history().of(Kind::Pod, &victim.task).next().cloned();
    let Some(pod) = pod else { return };
    let mut copy = copied(&pod);
    copy["metadata"]["name"] = format!("pod-{number}").into();
    copy["metadata"]["ownerReferences"] = Value::Null;
    copy["metadata"]["annotations"][FOREIGN] = "true".into();
    copy["spec"] = json!({
        "restartPolicy": "Never", "containers": [{"name": "task", "image": "none"}], "nodeSelector": {"nowhere": "true"},
    });
    create(sim, PODS, &copy, &format!("a pod like {}", pod.name)).await;
}

/// Creates an event about a failure that has not happened.
async fn forge_event(sim: &Sim, victim: &Object, number: usize) {
    let kind = if victim.kind == Kind::Pod { "Pod" } else { "Job" };
    let event = json!({
        "metadata": {"name": format!("event-{number}"), "namespace": "default"},
        "involvedObject": {"kind": kind, "namespace": "default", "name": victim.name, "uid": victim.uid},
        "reason": "FailedCreate", "message": "a quota is full", "type": "Warning", "count": 1,
        "source": {"component": "job-controller"}, "reportingComponent": "job-controller",
    });
    create(sim, EVENTS, &event, &format!("an event about {}", victim.name)).await;
}

/// Creates a ConfigMap with the ID of a task.
async fn create_config_map(sim: &Sim, victim: &Object, number: usize) {
    let object = json!({
        "metadata": {
            "name": format!("map-{number}"), "annotations": {FOREIGN: "true", "k8s-cli/turn": "1 gave-way 1 2026-01-01T00:00:00Z"},
            "labels": {"skypilot-task": "true", "task-id": victim.task, "username": victim.user.replace('@', "-")},
        },
    });
    create(sim, CONFIG_MAPS, &object, &format!("a ConfigMap with {}", victim.task)).await;
}

/// Removes a label from an object and restores it after a while.
async fn remove_label(sim: &Arc<Sim>, victim: &Object, random: &mut Rng) {
    let path = match victim.kind {
        Kind::Job => JOBS,
        Kind::Pod => PODS,
        Kind::Owner => CONFIG_MAPS,
    };
    let path = format!("{path}/{}", victim.name);
    let label = ["skypilot-task", "task-id", "k8s-cli/user"][random.usize(0..3)];
    let known = victim.value["metadata"]["labels"][label].clone();
    let time = between(random, 100, 15_000);
    if !known.is_string() || Instant::now() + time > sim.quiet_at {
        return;
    }
    let change = |value: Value| json!({"metadata": {"uid": victim.uid, "labels": {label: value}}});
    let taken = sim.direct.send(Method::PATCH, &path, &change(Value::Null)).await;
    sim.log(|| format!("the tenant removes {label} from {}: {}", victim.name, taken.is_ok()));
    let (sim, back) = (Arc::clone(sim), change(known));
    tokio::spawn(async move {
        sleep(time).await;
        let given = sim.direct.send(Method::PATCH, &path, &back).await;
        sim.log(|| format!("the tenant restores {label} of {path}: {}", given.is_ok()));
    });
}
