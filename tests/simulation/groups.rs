//! Groups of tasks: users submit pipelines and sweeps, and the order and the limit of their tasks are checked.

use std::sync::Arc;
use std::time::Duration;

use executor::SubmitRequest;
use fastrand::Rng;
use serde_json::{Value, json};
use task::GroupDefinition;
use tokio::time::{Instant, sleep};

use super::clients::{task_body, user};
use super::history::{History, Kind, Object, Task};
use super::invariants::{self, GROUP_LIVENESS, GROUP_ORDER, IDEMPOTENCY};
use super::ledger::{Outcome, Submit};
use super::sim::{Sim, between, happens, pause};

/// Maximum number of submits with one key.
const MAX_TRIES: usize = 6;

/// Time within which the next task of a group must start.
const PROGRESS_TIME: Duration = Duration::from_secs(60);

/// Submits a random group of two to four tasks, whose numbers begin at `first`, until a server acknowledges it.
pub(crate) async fn submit(sim: Arc<Sim>, name: &'static str, first: usize, seed: u64) {
    let mut random = Rng::with_seed(seed);
    let count = random.usize(2..=4);
    let tasks: Vec<Value> = (first..first + count)
        .map(|number| task_body(&sim, &mut random, number))
        .collect();
    let mut body = json!({"name": format!("group{first}"), "tasks": tasks});
    if random.bool() {
        body["execution"] = "serial".into();
    } else if random.bool() {
        body["max_parallel"] = random.u8(1..=2).into();
    }
    let definition = GroupDefinition::parse(&body, 10).unwrap();
    let key = happens(&mut random, 0.8).then(|| format!("group-{first}"));
    let mut known: Option<Vec<String>> = None;
    for _ in 0..MAX_TRIES {
        let submitted = submit_once(&sim, name, &key, &definition, &mut random).await;
        if let Some((server, ids)) = submitted {
            if known.as_ref().is_some_and(|known| *known != ids) {
                let how = format!("{key:?} has created the groups {known:?} and {ids:?}");
                // A stopped group frees its key.
                if known
                    .iter()
                    .flatten()
                    .all(|id| sim.ledger().stop_requested_at(id).is_none())
                {
                    sim.timeline.violated(IDEMPOTENCY, how);
                }
            }
            for (number, id) in (first..).zip(&ids).filter(|_| known.is_none()) {
                sim.ledger().submits.push(Submit {
                    user: name,
                    key: None,
                    definition: number,
                    server: server.name.clone(),
                    outcome: Outcome::Created {
                        id: id.clone(),
                        at: Instant::now(),
                    },
                });
                invariants::submitted(&sim, &server, name, id);
            }
            known = Some(ids);
            if happens(&mut random, 0.8) {
                return;
            }
        }
        if key.is_none() {
            return;
        }
        pause(&mut random, 100, 6000).await;
    }
}

async fn submit_once(
    sim: &Arc<Sim>,
    name: &'static str,
    key: &Option<String>,
    definition: &GroupDefinition,
    random: &mut Rng,
) -> Option<(super::server::Server, Vec<String>)> {
    let server = sim.servers.any(random)?;
    let request = SubmitRequest {
        user: user(name),
        definition: definition.clone(),
        idempotency_key: key.clone(),
    };
    let what = format!(
        "{name} submits the group {:?} under {key:?} to {}",
        definition.name, server.name
    );
    sim.log(|| format!("{what}: {:?}", definition.execution));
    let patience = if happens(random, 0.3) {
        between(random, 100, 10_000)
    } else {
        Duration::from_secs(120)
    };
    let dead = server.link.dead();
    let response = tokio::select! {
        biased;
        () = dead.cancelled() => None,
        response = server.executor.submit_group(request) => Some(response),
        () = sleep(patience) => None,
    };
    sim.log(|| format!("{what}: {response:?}"));
    match response {
        Some(Ok(submitted)) => Some((server, submitted.task_ids)),
        Some(Err(_)) | None => None,
    }
}

/// The place of a task in its group.
struct Place {
    group: String,
    index: u64,
    is_serial: bool,
    max_parallel: Option<u64>,
}

fn place(task: &Task<'_>) -> Option<Place> {
    let record: Value = serde_json::from_str(task.owner?.annotation("k8s-cli/group")?).ok()?;
    Some(Place {
        group: record["id"].as_str()?.to_owned(),
        index: record["index"].as_u64()?,
        is_serial: record["execution"] == "serial",
        max_parallel: record["max_parallel"].as_u64(),
    })
}

/// The other tasks of a group, with their places.
fn others<'a>(history: &'a History, of: &Place) -> Vec<(Place, Task<'a>)> {
    let tasks = history.tasks();
    let tasks = tasks.iter().map(|id| history.task(id));
    let with_place = tasks.filter_map(|task| Some((place(&task)?, task)));
    with_place
        .filter(|(place, _)| place.group == of.group && place.index != of.index)
        .collect()
}

fn has_completed(task: &Task<'_>) -> bool {
    let mut jobs = task.latest_jobs();
    jobs.all(|job| job.has_condition("Complete"))
}

/// Whether a pod runs the script of the user, and nothing ends it.
fn runs(pod: &Object) -> bool {
    let is_ending = pod.value["spec"]["activeDeadlineSeconds"] == 1 || pod.deletion_started_at.is_some();
    pod.started_at.is_some() && pod.phase() == "Running" && !is_ending
}

/// Checks a pod in which the script of the user starts: the task before has completed, and no more tasks run than may.
pub(crate) fn started(sim: &Sim, history: &History, pod: &Object) {
    let task = history.task(&pod.task);
    let Some(of) = place(&task) else { return };
    if task.owner.is_some_and(|owner| {
        owner
            .annotation("k8s-cli/turn")
            .is_some_and(|turn| turn.ends_with(" held"))
    }) {
        let how = format!("{} starts, and its group has not started it", pod.name);
        sim.timeline.violated(GROUP_ORDER, how);
    }
    let others = others(history, &of);
    if of.is_serial && of.index > 0 {
        let before = others.iter().find(|(place, _)| place.index + 1 == of.index);
        if !before.is_some_and(|(_, before)| has_completed(before)) {
            let how = format!("{} starts before the task before it has completed", pod.name);
            sim.timeline.violated(GROUP_ORDER, how);
        }
    }
    if let Some(most) = of.max_parallel {
        let is_running = |task: &Task<'_>| {
            let id = task.owner.map_or("", |owner| owner.task.as_str());
            history.of(Kind::Pod, id).any(runs)
        };
        let running = 1 + others.iter().filter(|(_, task)| is_running(task)).count() as u64;
        if running > most {
            let how = format!("{} starts, and {running} tasks run of at most {most}", pod.name);
            sim.timeline.violated(GROUP_ORDER, how);
        }
    }
}

/// Checks a held task: some task of its group has not ended, or ended only now.
pub(crate) fn check_progress(sim: &Sim, history: &History, id: &str) {
    let task = history.task(id);
    let Some(of) = place(&task).filter(|_| task.exists()) else {
        return;
    };
    let (now, owner) = (Instant::now(), task.owner.unwrap());
    let is_held = owner.annotation("k8s-cli/turn") == Some("1 held");
    let is_old =
        |object: &Object| object.changed_at + PROGRESS_TIME < now && object.is_untouched_since(now - PROGRESS_TIME);
    if !is_held || !is_old(owner) {
        return;
    }
    let started = |task: &Task<'_>| {
        let turn = task.owner.and_then(|owner| owner.annotation("k8s-cli/turn"));
        turn.is_some_and(|turn| !turn.ends_with(" held"))
    };
    let has_ended = |task: &Task<'_>| {
        let all = || task.jobs.iter().copied().chain(task.owner);
        all().all(|object| object.changed_at + PROGRESS_TIME < now)
            && (!task.exists() || task.latest_jobs().all(Object::has_ended))
    };
    let others = others(history, &of);
    let mut active = others
        .iter()
        .filter(|(_, task)| started(task))
        .filter(|(_, task)| !has_ended(task));
    if active.next().is_none() {
        let how = format!("{id} waits for its group, in which nothing runs");
        sim.timeline.violated(GROUP_LIVENESS, how);
    }
}
