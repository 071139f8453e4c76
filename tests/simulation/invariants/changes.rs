//! Invariants that are checked after each change of an object.

use std::sync::Arc;

use super::{GANG_START, NO_DISRUPTION, PERSISTENCE, STOP, has_failed, has_started, may_be_gone};
use crate::groups;
use crate::history::{Change, History, Kind, Object};
use crate::sim::Sim;

/// Checks a change of an object.
pub(crate) fn changed(sim: &Arc<Sim>, change: &Change) {
    let after = &change.after;
    if after.is_foreign {
        return;
    }
    let before = change.before.as_ref();
    if sim.timeline.is_kept() {
        log_change(sim, before, after);
    }
    if after.kind != Kind::Pod && before.is_some_and(Object::exists) && !after.exists() {
        check_deletion(sim, after);
    }
    let deadline = |object: &Object| match object.kind {
        Kind::Job | Kind::Pod => object.value["spec"]["activeDeadlineSeconds"].as_i64(),
        Kind::Owner => None,
    };
    let is_suspended = |object: &Object| object.value["spec"]["suspend"] == true;
    let is_terminated = deadline(after) == Some(1) && before.is_some_and(|before| deadline(before) != Some(1));
    let is_now_suspended = is_suspended(after) && before.is_some_and(|before| !is_suspended(before));
    if is_terminated || is_now_suspended {
        let what = if is_terminated { "terminated" } else { "suspended" };
        check_termination(sim, after, what);
    }
    let gate = "k8s-cli/node-ips";
    if after.kind == Kind::Pod
        && after.annotation(gate).is_some()
        && before.is_none_or(|before| before.annotation(gate) != after.annotation(gate))
    {
        let history = sim.history();
        check_gate(sim, &history, after);
    }
}

/// Adds the relevant changes of an object to the timeline.
fn log_change(sim: &Sim, before: Option<&Object>, after: &Object) {
    let kind = match after.kind {
        Kind::Job => "job",
        Kind::Pod => "pod",
        Kind::Owner => "owner",
    };
    let facts = |object: &Object| {
        let mut facts = vec![object.phase().to_owned()];
        if object.kind != Kind::Pod {
            facts.clear();
        }
        let spec = &object.value["spec"];
        for field in ["suspend", "activeDeadlineSeconds", "nodeName"] {
            if !spec[field].is_null() {
                facts.push(format!("{field}={}", spec[field]));
            }
        }
        for name in [
            "k8s-cli/turn",
            "k8s-cli/committed",
            "k8s-cli/node-ips",
            "k8s-cli/run",
            "k8s-cli/ended-because-of-node",
            "k8s-cli/provision-timed-out",
            "k8s-cli/gave-way-at",
        ] {
            if let Some(text) = object.annotation(name) {
                facts.push(format!("{}={}", &name[8..], text.replace('\n', ",")));
            }
        }
        let ends = ["Complete", "FailureTarget", "Failed", "DisruptionTarget"];
        facts.extend(
            ends.iter()
                .filter(|kind| object.has_condition(kind))
                .map(|kind| (*kind).to_owned()),
        );
        if object.deleted_at.is_some() {
            facts.push("deleted".to_owned());
        } else if object.deletion_started_at.is_some() {
            facts.push("deleting".to_owned());
        }
        facts.join(" ")
    };
    if before.is_none_or(|before| facts(before) != facts(after)) {
        sim.log(|| format!("    {kind} {} [{}]: {}", after.name, after.task, facts(after)));
    }
}

/// Checks the deletion of a Job or an owner.
fn check_deletion(sim: &Sim, object: &Object) {
    let (history, ledger) = (sim.history(), sim.ledger());
    let task = history.task(&object.task);
    let is_outdated = object.kind == Kind::Job && object.attempt + 10 <= task.attempt;
    if ledger.is_acknowledged(&object.task) && !is_outdated && !may_be_gone(sim, &ledger, &task, &object.task) {
        sim.timeline
            .violated(PERSISTENCE, format!("{} of {} is deleted", object.name, object.task));
    }
}

/// Checks a Job or a pod that is terminated or suspended.
fn check_termination(sim: &Sim, object: &Object, what: &str) {
    let (history, ledger) = (sim.history(), sim.ledger());
    let has_started = match object.kind {
        // All nodes of a gang end together.
        _ if object.num_nodes > 1 => has_started(&history, &object.task, object.attempt),
        Kind::Pod => object.started_at.is_some(),
        _ => has_started(&history, &object.task, object.attempt),
    };
    let is_requested =
        ledger.stop_requested_at(&object.task).is_some() || ledger.cancel_requested_at(&object.task).is_some();
    if has_started && !is_requested && !has_failed(&history, &object.task, object.attempt) {
        sim.timeline.violated(
            NO_DISRUPTION,
            format!("{} of {} has started and is {what}", object.name, object.task),
        );
    }
}

/// Checks a pod that receives the addresses of all nodes, which opens its gate.
fn check_gate(sim: &Sim, history: &History, pod: &Object) {
    let addresses: Vec<&str> = pod.annotation("k8s-cli/node-ips").unwrap_or_default().lines().collect();
    if addresses.len() != pod.num_nodes as usize {
        let how = format!(
            "{} receives {} addresses of {} nodes",
            pod.name,
            addresses.len(),
            pod.num_nodes
        );
        sim.timeline.violated(GANG_START, how);
        return;
    }
    for (rank, address) in addresses.iter().enumerate() {
        let mut nodes = history
            .of(Kind::Pod, &pod.task)
            .filter(|one| one.attempt == pod.attempt && one.rank as usize == rank);
        let node = nodes.find(|node| node.value["status"]["podIP"] == **address);
        match node {
            Some(node) if node.phase() != "Pending" => {}
            _ => sim.timeline.violated(
                GANG_START,
                format!("the gate of {} is opened, and node {rank} has not run", pod.name),
            ),
        }
    }
}

/// Checks a pod in which the script of the user starts.
pub(crate) fn started(sim: &Arc<Sim>, uid: &str) {
    sim.history().record_start(uid);
    let (history, ledger) = (sim.history(), sim.ledger());
    let Some(pod) = history.get(uid).filter(|pod| !pod.is_foreign) else {
        return;
    };
    sim.log(|| format!("    the script of {} starts", pod.name));
    if ledger
        .stopped_at(&pod.task)
        .is_some_and(|at| at < tokio::time::Instant::now())
    {
        sim.timeline
            .violated(STOP, format!("{} starts after {} was stopped", pod.name, pod.task));
    }
    groups::started(sim, &history, pod);
    if pod.num_nodes == 1 {
        return;
    }
    let job = history.job_of(pod);
    if job.is_none_or(|job| job.value["spec"]["suspend"] == true) {
        sim.timeline.violated(
            GANG_START,
            format!("{} starts although its Job was preempted", pod.name),
        );
    }
    for rank in 0..pod.num_nodes {
        let mut nodes = history
            .of(Kind::Pod, &pod.task)
            .filter(|one| one.attempt == pod.attempt && one.rank == rank);
        if !nodes.any(|node| node.phase() != "Pending") {
            sim.timeline.violated(
                GANG_START,
                format!("{} starts, and node {rank} has never run", pod.name),
            );
        }
    }
}
