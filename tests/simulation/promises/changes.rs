//! What must be so whenever an object has changed.

use std::sync::Arc;

use super::{BEGUN, STAYS, STOPPED, TOGETHER, has_begun, has_failed, is_let_go};
use crate::history::{Change, History, Kind, Object};
use crate::sim::Sim;

/// An object has changed.
pub fn changed(sim: &Arc<Sim>, change: &Change) {
    let after = &change.after;
    if after.by_stranger {
        return;
    }
    let before = change.before.as_ref();
    if sim.timeline.is_kept() {
        tell(sim, before, after);
    }
    if after.kind != Kind::Pod && before.is_some_and(Object::is_there) && !after.is_there() {
        deleted(sim, after);
    }
    let deadline = |object: &Object| match object.kind {
        Kind::Job | Kind::Pod => object.value["spec"]["activeDeadlineSeconds"].as_i64(),
        Kind::Owner => None,
    };
    let is_suspended = |object: &Object| object.value["spec"]["suspend"] == true;
    let is_told_to_end = deadline(after) == Some(1) && before.is_some_and(|before| deadline(before) != Some(1));
    let is_now_suspended = is_suspended(after) && before.is_some_and(|before| !is_suspended(before));
    if is_told_to_end || is_now_suspended {
        let what = if is_told_to_end { "told to end" } else { "suspended" };
        ended(sim, after, what);
    }
    let gate = "k8s-cli/node-ips";
    if after.kind == Kind::Pod
        && after.annotation(gate).is_some()
        && before.is_none_or(|before| before.annotation(gate) != after.annotation(gate))
    {
        let history = sim.history();
        gate_opened(sim, &history, after);
    }
}

/// Notes what has become of an object, as far as it matters.
fn tell(sim: &Sim, before: Option<&Object>, after: &Object) {
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
        if object.gone.is_some() {
            facts.push("GONE".to_owned());
        } else if object.deleted.is_some() {
            facts.push("deleting".to_owned());
        }
        facts.join(" ")
    };
    if before.is_none_or(|before| facts(before) != facts(after)) {
        sim.tell(|| format!("    {kind} {} [{}]: {}", after.name, after.task, facts(after)));
    }
}

/// The Job or the owner of a task is being deleted.
fn deleted(sim: &Sim, object: &Object) {
    let (history, ledger) = (sim.history(), sim.ledger());
    let task = history.task(&object.task);
    let is_outdated = object.kind == Kind::Job && object.attempt + 10 <= task.attempt;
    if ledger.is_acknowledged(&object.task) && !is_outdated && !is_let_go(sim, &ledger, &task, &object.task) {
        sim.timeline
            .violated(STAYS, format!("{} of {} is deleted", object.name, object.task));
    }
}

/// A Job or a pod is told to end, or suspended.
fn ended(sim: &Sim, object: &Object, what: &str) {
    let (history, ledger) = (sim.history(), sim.ledger());
    let has_begun = match object.kind {
        // The nodes of one gang share their fate.
        _ if object.num_nodes > 1 => has_begun(&history, &object.task, object.attempt),
        Kind::Pod => object.begun.is_some(),
        _ => has_begun(&history, &object.task, object.attempt),
    };
    let is_asked_for = ledger.stop_asked(&object.task).is_some();
    if has_begun && !is_asked_for && !has_failed(&history, &object.task, object.attempt) {
        sim.timeline.violated(
            BEGUN,
            format!("{} of {} has begun and is {what}", object.name, object.task),
        );
    }
}

/// A pod is told the addresses of all nodes, and so let begin.
fn gate_opened(sim: &Sim, history: &History, pod: &Object) {
    let addresses: Vec<&str> = pod.annotation("k8s-cli/node-ips").unwrap_or_default().lines().collect();
    if addresses.len() != pod.num_nodes as usize {
        let how = format!(
            "{} is told {} addresses of {} nodes",
            pod.name,
            addresses.len(),
            pod.num_nodes
        );
        sim.timeline.violated(TOGETHER, how);
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
                TOGETHER,
                format!("{} is let begin, and node {rank} has not run", pod.name),
            ),
        }
    }
}

/// The user's code begins in a pod.
pub fn begins(sim: &Arc<Sim>, uid: &str) {
    sim.history().begins(uid);
    let (history, ledger) = (sim.history(), sim.ledger());
    let Some(pod) = history.get(uid).filter(|pod| !pod.by_stranger) else {
        return;
    };
    sim.tell(|| format!("    the code of {} begins", pod.name));
    if ledger
        .stopped(&pod.task)
        .is_some_and(|at| at < tokio::time::Instant::now())
    {
        sim.timeline
            .violated(STOPPED, format!("{} begins after {} was stopped", pod.name, pod.task));
    }
    if pod.num_nodes == 1 {
        return;
    }
    let job = history.job_of(pod);
    if job.is_none_or(|job| job.value["spec"]["suspend"] == true) {
        sim.timeline
            .violated(TOGETHER, format!("{} begins although its Job gave way", pod.name));
    }
    for rank in 0..pod.num_nodes {
        let mut nodes = history
            .of(Kind::Pod, &pod.task)
            .filter(|one| one.attempt == pod.attempt && one.rank == rank);
        if !nodes.any(|node| node.phase() != "Pending") {
            sim.timeline
                .violated(TOGETHER, format!("{} begins, and node {rank} has never run", pod.name));
        }
    }
}
