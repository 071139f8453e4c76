//! Invariants that are checked after the servers have settled.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use executor::TaskSnapshot;
use task::wire::TaskStatus;
use tokio::time::Instant;

use super::{CANCEL, CLEANUP, CONVERGENCE, IDEMPOTENCY, LIVENESS, MAX_AGE, PERSISTENCE, has_failed, may_be_gone};
use crate::clients::{USERS, user};
use crate::groups;
use crate::history::{History, Kind, Object, Task};
use crate::ledger::{Ledger, Outcome, Submit};
use crate::sim::Sim;

/// Time within which a server deletes the objects of a failed submit.
const CLEANUP_TIME: Duration = Duration::from_secs(95);

/// Time within which a gang must make progress.
const PROGRESS_TIME: Duration = Duration::from_secs(60);

/// Whether no submit is pending and the objects of failed submits may be deleted.
pub(crate) fn is_settled(sim: &Sim) -> bool {
    let (history, ledger) = (sim.history(), sim.ledger());
    let is_open = ledger.submits.iter().any(|submit| submit.outcome == Outcome::Pending);
    let uncommitted = history
        .all()
        .any(|owner| owner.kind == Kind::Owner && !owner.is_foreign && owner.exists() && owner.committed_at.is_none());
    let is_undone = |submit: &Submit| match &submit.outcome {
        Outcome::Rejected { at, .. } => {
            at.elapsed() > CLEANUP_TIME
                || jobs_of_submit(&history, submit).next().is_none() && at.elapsed() > CLEANUP_TIME / 2
        }
        _ => true,
    };
    !is_open
        && !uncommitted
        && ledger
            .submits
            .iter()
            .filter(|submit| submit.key.is_none())
            .all(is_undone)
}

/// Checks all invariants that hold at the end.
pub(crate) fn check_at_end(sim: &Arc<Sim>) {
    let (history, ledger) = (sim.history(), sim.ledger());
    for (id, _, _) in ledger.acknowledged() {
        let task = history.task(&id);
        if may_be_gone(sim, &ledger, &task, &id) {
            continue;
        }
        let attempt = task.attempt;
        let is_whole = |attempt: u32| {
            let jobs = task.jobs.iter().filter(|job| job.attempt == attempt && job.exists());
            task.jobs
                .first()
                .is_some_and(|first| jobs.count() == first.num_nodes as usize)
        };
        if !task.exists() || !(is_whole(attempt) || attempt > 1 && is_whole(attempt - 1)) {
            sim.timeline.violated(PERSISTENCE, format!("{id} is incomplete"));
        }
    }
    check_keys(sim, &history, &ledger);
    check_rejections(sim, &history, &ledger);
    for id in history.tasks() {
        check_progress(sim, &history, &id);
        groups::check_progress(sim, &history, &id);
    }
    check_cancelled(sim, &history, &ledger);
    check_convergence(sim, &history);
}

/// Each key has at most one task.
fn check_keys(sim: &Sim, history: &History, ledger: &Ledger) {
    let mut tasks: BTreeMap<(&str, &str), Vec<String>> = BTreeMap::new();
    let keyed = ledger
        .submits
        .iter()
        .filter_map(|submit| Some((submit.user, submit.key.as_deref()?)));
    let tokens: BTreeMap<String, (&str, &str)> = keyed
        .map(|(name, key)| (executor::tokens::key_token(&user(name), key), (name, key)))
        .collect();
    for id in history.tasks() {
        let task = history.task(&id);
        let token = task.owner.and_then(|owner| owner.annotation("k8s-cli/submission"));
        if let Some(key) = token.and_then(|token| tokens.get(token)).filter(|_| task.exists()) {
            tasks.entry(*key).or_default().push(id);
        }
    }
    for (key, ids) in tasks {
        if ids.len() > 1 {
            sim.timeline
                .violated(IDEMPOTENCY, format!("{key:?} has created {ids:?}"));
        }
    }
}

/// Returns the existing Jobs of a submit.
fn jobs_of_submit<'a>(history: &'a History, submit: &'a Submit) -> impl Iterator<Item = &'a Object> {
    history.all().filter(|object| {
        object.kind == Kind::Job && !object.is_foreign && object.exists() && object.submit == Some(submit.definition)
    })
}

/// Rejected submits have left no objects.
fn check_rejections(sim: &Sim, history: &History, ledger: &Ledger) {
    for submit in &ledger.submits {
        let Outcome::Rejected { at, is_reuse, .. } = &submit.outcome else {
            continue;
        };
        // A submit with a key is retried. A server that crashed could not delete its objects, and no other server knows
        // about them.
        let is_final = (submit.key.is_none() || *is_reuse) && !ledger.crashed_since(&submit.server, *at);
        let is_made = |other: &Submit| {
            other.definition == submit.definition && !matches!(other.outcome, Outcome::Rejected { .. })
        };
        if is_final
            && !ledger.submits.iter().any(is_made)
            && let Some(left) = jobs_of_submit(history, submit).next()
        {
            sim.timeline.violated(
                CLEANUP,
                format!("{} of submit {} is left", left.name, submit.definition),
            );
        }
    }
    for object in history.all().filter(|object| !object.is_foreign && object.exists()) {
        if object.kind == Kind::Owner && object.committed_at.is_none() {
            sim.timeline.violated(
                CLEANUP,
                format!("the owner {} was never committed and still exists", object.name),
            );
        }
        let owner = object.owners.first().filter(|_| object.kind == Kind::Job);
        if owner.is_some_and(|owner| history.get(owner).is_none_or(|owner| owner.deleted_at.is_some())) {
            sim.timeline
                .violated(CLEANUP, format!("{} is left without its owner", object.name));
        }
    }
}

/// A canceled task has ended, on all servers.
fn check_cancelled(sim: &Sim, history: &History, ledger: &Ledger) {
    for (id, at) in ledger.cancelled() {
        let task = history.task(id);
        if at + PROGRESS_TIME > Instant::now() || may_be_gone(sim, ledger, &task, id) {
            continue;
        }
        for pod in history.of(Kind::Pod, id).filter(|pod| pod.exists()) {
            if matches!(pod.phase(), "Running" | "Pending") && pod.is_untouched_since(at + PROGRESS_TIME / 2) {
                sim.timeline
                    .violated(CANCEL, format!("{} of {id} has not ended", pod.name));
            }
        }
        let late = task.jobs.iter().find(|job| job.created_at > at + PROGRESS_TIME / 2);
        if let Some(job) = late {
            sim.timeline
                .violated(CANCEL, format!("{} was created after {id} was canceled", job.name));
        }
    }
}

/// A gang whose nodes all run has started, and one with a failed node has ended.
fn check_progress(sim: &Sim, history: &History, id: &str) {
    let task = history.task(id);
    let now = Instant::now();
    let present: Vec<&Object> = task.latest_jobs().filter(|job| job.exists()).collect();
    let pods = history
        .of(Kind::Pod, id)
        .filter(|pod| pod.attempt == task.attempt && pod.exists());
    let pods: Vec<&Object> = pods.collect();
    let Some(first) = present.first().filter(|job| job.num_nodes > 1 && task.exists()) else {
        return;
    };
    let for_long =
        |pod: &&Object| pod.phase_changed_at + PROGRESS_TIME < now && pod.is_untouched_since(now - PROGRESS_TIME);
    let runs = pods
        .iter()
        .filter(|pod| pod.phase() == "Running" && for_long(pod))
        .count();
    let has_waited = pods.iter().all(|pod| pod.annotation("k8s-cli/node-ips").is_none());
    let nodes = first.num_nodes as usize;
    if runs == nodes && present.len() == nodes && has_waited {
        sim.timeline
            .violated(LIVENESS, format!("all nodes of {id} run, and no gate is open"));
    }
    let failed_long_ago = pods.iter().any(|pod| pod.phase() == "Failed" && for_long(pod));
    if failed_long_ago && runs > 0 && has_failed(history, id, task.attempt) {
        sim.timeline
            .violated(LIVENESS, format!("a node of {id} has failed, and others still run"));
    }
}

/// All servers show the same tasks with the same states.
fn check_convergence(sim: &Sim, history: &History) {
    let servers = sim.servers.running();
    for server in &servers {
        if let Err(error) = server.executor.check_in_sync() {
            sim.timeline
                .violated(CONVERGENCE, format!("{} is out of sync: {error}", server.name));
        }
    }
    for name in USERS {
        let there = history.tasks().into_iter().filter(|id| {
            let task = history.task(id);
            task.user() == name && task.exists() && is_steady(history, id)
        });
        let there: Vec<String> = there.collect();
        let mut first: Option<(String, BTreeMap<String, String>)> = None;
        for server in &servers {
            let Ok(tasks) = server.executor.tasks(Some(&user(name))) else {
                continue;
            };
            let ours = |id: &String, view: &TaskSnapshot| {
                view.jobs.iter().any(|job| is_of(history, &history.task(id), &job.uid))
            };
            let shown = tasks
                .iter()
                .filter(|(id, view)| ours(id, view) && !view.terminating && is_steady(history, id));
            let shown: BTreeMap<String, String> = shown.map(|(id, view)| (id.clone(), summary(view))).collect();
            let ids: Vec<String> = shown.keys().cloned().collect();
            if ids != there {
                sim.timeline.violated(
                    CONVERGENCE,
                    format!("{} shows {name} {ids:?} instead of {there:?}", server.name),
                );
            }
            match &first {
                None => first = Some((server.name.clone(), shown)),
                Some((other, known)) if *known != shown => {
                    let differences = shown.iter().filter(|(id, text)| known.get(*id) != Some(text));
                    let differences: Vec<_> = differences.map(|(id, text)| (id, text, known.get(id))).collect();
                    sim.timeline.violated(
                        CONVERGENCE,
                        format!("{} and {other} differ: {differences:?}", server.name),
                    );
                }
                Some(_) => {}
            }
        }
    }
}

/// Whether the objects of a task have been unchanged for longer than `MAX_AGE`.
fn is_steady(history: &History, id: &str) -> bool {
    let task = history.task(id);
    let pods = history.of(Kind::Pod, id);
    task.jobs
        .iter()
        .copied()
        .chain(task.owner)
        .chain(pods)
        .all(|object| object.changed_at.elapsed() > MAX_AGE)
}

fn is_of(history: &History, task: &Task<'_>, uid: &str) -> bool {
    history.get(uid).is_some_and(|job| !job.is_foreign) && task.jobs.iter().any(|job| job.uid == uid)
}

/// Summarizes a task without fields that servers may update at different times.
fn summary(view: &TaskSnapshot) -> String {
    let status: TaskStatus = serde_json::from_slice(&view.json).unwrap();
    let nodes = status.metadata.nodes.iter();
    let nodes: Vec<String> = nodes.map(|node| format!("{} {}", node.attempt, node.status)).collect();
    format!("{} {nodes:?}", status.status)
}
