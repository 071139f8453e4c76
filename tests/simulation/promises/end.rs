//! What must be so when everything has settled.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use executor::TaskSnapshot;
use serde_json::Value;
use tokio::time::Instant;

use super::{AGREE, BOUND, GOES_ON, ONE_KEY, REFUSED, STAYS, has_failed, is_let_go};
use crate::clients::{USERS, user};
use crate::history::{History, Kind, Object, Task};
use crate::ledger::{Ledger, Outcome, Submit};
use crate::sim::Sim;

/// How long a server may look for what a failed submit has left.
const UNDO: Duration = Duration::from_secs(95);

/// How long everything that can go on may take to do so.
const SLOW: Duration = Duration::from_secs(60);

/// Whether there is nothing left that takes its time.
pub fn is_settled(sim: &Sim) -> bool {
    let (history, ledger) = (sim.history(), sim.ledger());
    let is_open = ledger.submits.iter().any(|submit| submit.outcome == Outcome::Open);
    let uncommitted = history
        .all()
        .any(|owner| owner.kind == Kind::Owner && !owner.by_stranger && owner.is_there() && owner.committed.is_none());
    let is_undone = |submit: &Submit| match &submit.outcome {
        Outcome::Refused { at, .. } => {
            at.elapsed() > UNDO || of_submit(&history, submit).next().is_none() && at.elapsed() > UNDO / 2
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

/// Checks everything once more.
pub fn kept_at_the_end(sim: &Arc<Sim>) {
    let (history, ledger) = (sim.history(), sim.ledger());
    for (id, _, _) in ledger.acknowledged() {
        let task = history.task(&id);
        if is_let_go(sim, &ledger, &task, &id) {
            continue;
        }
        let attempt = task.attempt;
        let is_whole = |attempt: u32| {
            let jobs = task.jobs.iter().filter(|job| job.attempt == attempt && job.is_there());
            task.jobs
                .first()
                .is_some_and(|first| jobs.count() == first.num_nodes as usize)
        };
        if !task.is_there() || !(is_whole(attempt) || attempt > 1 && is_whole(attempt - 1)) {
            sim.timeline.violated(STAYS, format!("{id} is not there as a whole"));
        }
    }
    keys(sim, &history, &ledger);
    refusals(sim, &history, &ledger);
    for id in history.tasks() {
        progress(sim, &history, &id);
    }
    agreement(sim, &history);
}

/// For each key there is at most one task.
fn keys(sim: &Sim, history: &History, ledger: &Ledger) {
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
        if let Some(key) = token.and_then(|token| tokens.get(token)).filter(|_| task.is_there()) {
            tasks.entry(*key).or_default().push(id);
        }
    }
    for (key, ids) in tasks {
        if ids.len() > 1 {
            sim.timeline.violated(ONE_KEY, format!("{key:?} has made {ids:?}"));
        }
    }
}

/// Everything that was made for a submit and is there.
fn of_submit<'a>(history: &'a History, submit: &'a Submit) -> impl Iterator<Item = &'a Object> {
    history.all().filter(|object| {
        object.kind == Kind::Job && !object.by_stranger && object.is_there() && object.submit == Some(submit.definition)
    })
}

/// What was refused has left nothing: neither a task nor a part of one.
fn refusals(sim: &Sim, history: &History, ledger: &Ledger) {
    for submit in &ledger.submits {
        let Outcome::Refused { at, is_reuse, .. } = &submit.outcome else {
            continue;
        };
        // A key is asked for again; and a server that died could not tidy up, where nobody else can know that it had to.
        let is_final = (submit.key.is_none() || *is_reuse) && !ledger.died_since(&submit.server, *at);
        let is_made =
            |other: &Submit| other.definition == submit.definition && !matches!(other.outcome, Outcome::Refused { .. });
        if is_final
            && !ledger.submits.iter().any(is_made)
            && let Some(left) = of_submit(history, submit).next()
        {
            sim.timeline.violated(
                REFUSED,
                format!("{} of submit {} is left", left.name, submit.definition),
            );
        }
    }
    for object in history.all().filter(|object| !object.by_stranger && object.is_there()) {
        if object.kind == Kind::Owner && object.committed.is_none() {
            sim.timeline.violated(
                REFUSED,
                format!("the owner {} was never committed and is there", object.name),
            );
        }
        let owner = object.owners.first().filter(|_| object.kind == Kind::Job);
        if owner.is_some_and(|owner| history.get(owner).is_none_or(|owner| owner.gone.is_some())) {
            sim.timeline
                .violated(REFUSED, format!("{} is left without its owner", object.name));
        }
    }
}

/// A gang whose nodes all run has begun; one of whose nodes one has failed has ended.
fn progress(sim: &Sim, history: &History, id: &str) {
    let task = history.task(id);
    let now = Instant::now();
    let present: Vec<&Object> = task.present().filter(|job| job.is_there()).collect();
    let pods = history
        .of(Kind::Pod, id)
        .filter(|pod| pod.attempt == task.attempt && pod.is_there());
    let pods: Vec<&Object> = pods.collect();
    let Some(first) = present.first().filter(|job| job.num_nodes > 1 && task.is_there()) else {
        return;
    };
    let for_long = |pod: &&Object| pod.moved + SLOW < now && pod.is_untouched_since(now - SLOW);
    let runs = pods
        .iter()
        .filter(|pod| pod.phase() == "Running" && for_long(pod))
        .count();
    let has_waited = pods.iter().all(|pod| pod.annotation("k8s-cli/node-ips").is_none());
    let nodes = first.num_nodes as usize;
    if runs == nodes && present.len() == nodes && has_waited {
        sim.timeline
            .violated(GOES_ON, format!("all nodes of {id} run, and none is let begin"));
    }
    let failed_long_ago = pods.iter().any(|pod| pod.phase() == "Failed" && for_long(pod));
    if failed_long_ago && runs > 0 && has_failed(history, id, task.attempt) {
        sim.timeline
            .violated(GOES_ON, format!("a node of {id} has failed, and others go on"));
    }
}

/// All servers show all tasks, and show them alike.
fn agreement(sim: &Sim, history: &History) {
    let servers = sim.servers.running();
    for server in &servers {
        if let Err(error) = server.executor.check_in_sync() {
            sim.timeline
                .violated(AGREE, format!("{} does not answer: {error}", server.name));
        }
    }
    for name in USERS {
        let there = history.tasks().into_iter().filter(|id| {
            let task = history.task(id);
            task.user() == name && task.is_there() && is_steady(history, id)
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
                    AGREE,
                    format!("{} shows {name} {ids:?} instead of {there:?}", server.name),
                );
            }
            match &first {
                None => first = Some((server.name.clone(), shown)),
                Some((other, known)) if *known != shown => {
                    let differences = shown.iter().filter(|(id, text)| known.get(*id) != Some(text));
                    let differences: Vec<_> = differences.map(|(id, text)| (id, text, known.get(id))).collect();
                    sim.timeline
                        .violated(AGREE, format!("{} and {other} differ: {differences:?}", server.name));
                }
                Some(_) => {}
            }
        }
    }
}

/// Whether nothing of a task has changed for so long that all must know it.
fn is_steady(history: &History, id: &str) -> bool {
    let task = history.task(id);
    let pods = history.of(Kind::Pod, id);
    task.jobs
        .iter()
        .copied()
        .chain(task.owner)
        .chain(pods)
        .all(|object| object.changed.elapsed() > BOUND)
}

fn is_of(history: &History, task: &Task<'_>, uid: &str) -> bool {
    history.get(uid).is_some_and(|job| !job.by_stranger) && task.jobs.iter().any(|job| job.uid == uid)
}

/// What a view says, without what one server may know later than another.
fn summary(view: &TaskSnapshot) -> String {
    let status: Value = serde_json::from_slice(&view.json).unwrap();
    let nodes = status["metadata"]["nodes"].as_array().into_iter().flatten();
    let nodes: Vec<String> = nodes
        .map(|node| format!("{} {}", node["attempt"], node["status"]))
        .collect();
    format!("{} {nodes:?}", status["status"])
}
