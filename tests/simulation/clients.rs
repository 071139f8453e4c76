//! Users: they submit tasks, retry without a response, stop and cancel their own tasks, and try to stop those of others.

use std::sync::Arc;
use std::time::Duration;

use executor::{CancelOutcome, Error, SubmitRequest};
use fastrand::Rng;
use serde_json::{Value, json};
use task::{TaskDefinition, UserName};
use tokio::time::{Instant, sleep};

use super::groups;
use super::invariants;
use super::ledger::{Ledger, Outcome, Stop, Submit};
use super::server::Server;
use super::sim::{Sim, between, happens, pause};

/// All users of the servers.
pub(crate) const USERS: [&str; 3] = ["alice@example.com", "bob", "mallory"];

/// Maximum number of submits with one key.
const MAX_TRIES: usize = 6;

/// Parses a user name.
pub(crate) fn user(name: &str) -> UserName {
    UserName::parse(name).unwrap()
}

/// A task that a user submits.
struct TaskRequest {
    number: usize,
    definition: TaskDefinition,
}

/// Lets one user send requests until the simulation gets quiet.
pub(crate) async fn use_servers(sim: Arc<Sim>, name: &'static str, index: usize) {
    let mut random = sim.random(("user", name));
    let mut number = index * 1000;
    pause(&mut random, 500, 6000).await;
    while sim.is_active() {
        match random.u8(0..12) {
            0..=4 => {
                number += 1;
                let request = task_request(&sim, &mut random, number);
                let key = random.bool().then(|| format!("key-{number}"));
                let other = (key.is_some() && happens(&mut random, 0.15)).then(|| {
                    number += 1;
                    task_request(&sim, &mut random, number)
                });
                let seed = random.u64(..);
                tokio::spawn(submit_with_retries(Arc::clone(&sim), name, key, request, other, seed));
            }
            5 | 6 => stop_own(&sim, name, &mut random),
            7 => stop_others(&sim, name, &mut random).await,
            8 => cancel_own(&sim, name, &mut random),
            9 => check_own_tasks(&sim, name, &mut random),
            10 => {
                // A group has up to four tasks.
                let first = number + 1;
                number += 4;
                let seed = random.u64(..);
                tokio::spawn(groups::submit(Arc::clone(&sim), name, first, seed));
            }
            _ => {}
        }
        pause(&mut random, 200, 11_000).await;
    }
}

fn task_request(sim: &Sim, random: &mut Rng, number: usize) -> TaskRequest {
    let definition = TaskDefinition::parse(&task_body(sim, random, number), 10).unwrap();
    TaskRequest { number, definition }
}

/// A random task. Its number is in the variables of its containers, which identifies its objects.
pub(crate) fn task_body(sim: &Sim, random: &mut Rng, number: usize) -> Value {
    let mut body = json!({
        "name": format!("task{number}"), "run": "true", "envs": {"SUBMIT": number.to_string()},
        "resources": {"cpus": random.u8(1..=2)},
    });
    let nodes = if sim.is_crowded {
        [2, 2, 3, 2, 2, 3]
    } else {
        [1, 1, 1, 2, 2, 3]
    }[random.usize(0..6)];
    body["num_nodes"] = nodes.into();
    if happens(random, 0.3) {
        body["setup"] = "true".into();
    }
    if happens(random, 0.35) {
        let codes = if random.bool() { json!([143]) } else { json!([]) };
        body["resources"]["job_recovery"] =
            json!({"max_restarts_on_errors": random.u8(0..3), "recover_on_exit_codes": codes});
    }
    if happens(random, 0.2) {
        body["max_duration"] = format!("{}s", random.u8(5..40)).into();
    }
    if happens(random, 0.35) {
        body["config"] = json!({"kubernetes": {"provision_timeout": random.u8(3..40)}});
    }
    body
}

/// Submits a task: with a key, until a server acknowledges it. `other` is submitted with the same key at the same time.
async fn submit_with_retries(
    sim: Arc<Sim>,
    name: &'static str,
    key: Option<String>,
    request: TaskRequest,
    other: Option<TaskRequest>,
    seed: u64,
) {
    let mut random = Rng::with_seed(seed);
    if let Some(other) = other {
        let (sim, key, mut random) = (Arc::clone(&sim), key.clone(), random.fork());
        tokio::spawn(async move {
            pause(&mut random, 0, 3000).await;
            submit(&sim, name, key, &other, &mut random).await;
        });
    }
    if key.is_none() {
        submit(&sim, name, None, &request, &mut random).await;
        return;
    }
    if happens(&mut random, 0.3) {
        // An impatient user retries before the first response.
        let (sim, key, mut random) = (Arc::clone(&sim), key.clone(), random.fork());
        let request = TaskRequest {
            number: request.number,
            definition: request.definition.clone(),
        };
        tokio::spawn(async move {
            pause(&mut random, 0, 2000).await;
            submit(&sim, name, key, &request, &mut random).await;
        });
    }
    for _ in 0..MAX_TRIES {
        match submit(&sim, name, key.clone(), &request, &mut random).await {
            Outcome::Pending | Outcome::Lost | Outcome::Rejected { is_reuse: false, .. } => {}
            Outcome::Created { .. } | Outcome::Rejected { .. } => break,
        }
        pause(&mut random, 100, 6000).await;
    }
    // Some users retry after the response.
    if happens(&mut random, 0.2) {
        pause(&mut random, 0, 10_000).await;
        submit(&sim, name, key, &request, &mut random).await;
    }
}

async fn submit(
    sim: &Arc<Sim>,
    name: &'static str,
    key: Option<String>,
    request: &TaskRequest,
    random: &mut Rng,
) -> Outcome {
    let Some(server) = sim.servers.any(random) else {
        return Outcome::Lost;
    };
    let number = {
        let mut ledger = sim.ledger();
        ledger.submits.push(Submit {
            user: name,
            key: key.clone(),
            definition: request.number,
            server: server.name.clone(),
            outcome: Outcome::Pending,
        });
        ledger.submits.len() - 1
    };
    let what = format!("{name} submits {} under {key:?} to {}", request.number, server.name);
    sim.log(|| format!("{what} ({} nodes)", request.definition.num_nodes));
    let submit = SubmitRequest {
        user: user(name),
        definition: request.definition.clone(),
        idempotency_key: key,
    };
    let patience = if happens(random, 0.3) {
        between(random, 100, 10_000)
    } else {
        Duration::from_secs(120)
    };
    let dead = server.link.dead();
    let outcome = tokio::select! {
        biased;
        () = dead.cancelled() => Outcome::Lost,
        response = server.executor.submit(submit) => match response {
            Ok(submitted) => Outcome::Created { id: submitted.id, at: Instant::now() },
            Err(error) => Outcome::Rejected {
                is_reuse: matches!(error, Error::IdempotencyKeyReused | Error::IdempotencyKeyTaken),
                why: error.to_string(),
                at: Instant::now(),
            },
        },
        () = sleep(patience) => Outcome::Lost,
    };
    match &outcome {
        Outcome::Created { id, .. } => sim.log(|| format!("{what}: {id}")),
        Outcome::Rejected { why, .. } => sim.log(|| format!("{what}: rejected, {why}")),
        Outcome::Lost | Outcome::Pending => sim.log(|| format!("{what}: no response")),
    }
    sim.ledger().submits[number].outcome = outcome.clone();
    if let Outcome::Created { id, .. } = &outcome {
        invariants::submitted(sim, &server, name, id);
    }
    outcome
}

/// Stops a task of this user in the background.
fn stop_own(sim: &Arc<Sim>, name: &'static str, random: &mut Rng) {
    if let Some((server, id)) = pick_own(sim, name, random, |ledger, id| ledger.stopped_at(id).is_none()) {
        tokio::spawn(stop(Arc::clone(sim), server, name, id));
    }
}

/// A server, and one of the acknowledged tasks of this user that `is_wanted`.
fn pick_own(
    sim: &Arc<Sim>,
    name: &'static str,
    random: &mut Rng,
    is_wanted: impl Fn(&Ledger, &str) -> bool,
) -> Option<(Server, String)> {
    let own: Vec<String> = {
        let ledger = sim.ledger();
        let own = ledger.acknowledged().into_iter();
        let own = own.filter(|(id, user, _)| *user == name && is_wanted(&ledger, id));
        own.map(|(id, _, _)| id).collect()
    };
    let (server, index) = (sim.servers.any(random), random.usize(..));
    let id = own.get(index.checked_rem(own.len())?)?;
    Some((server?, id.clone()))
}

async fn stop(sim: Arc<Sim>, server: Server, name: &'static str, id: String) {
    let at = Instant::now();
    let number = {
        let mut ledger = sim.ledger();
        ledger.stops.push(Stop {
            id: id.clone(),
            at,
            done: None,
        });
        ledger.stops.len() - 1
    };
    sim.log(|| format!("{name} stops {id} on {}", server.name));
    let (dead, who) = (server.link.dead(), user(name));
    let response = tokio::select! {
        biased;
        () = dead.cancelled() => return,
        response = server.executor.stop(&who, &id) => response,
        () = sleep(Duration::from_secs(120)) => return,
    };
    match response {
        Ok(true) => {
            sim.ledger().stops[number].done = Some(Instant::now());
            sim.log(|| format!("{name} has stopped {id} on {}", server.name));
            invariants::stopped(&sim, &server, name, &id);
        }
        Ok(false) => {
            sim.log(|| format!("{} has no task {id} of {name}", server.name));
            invariants::not_found(&sim, &server, &id, at);
        }
        Err(error) => sim.log(|| format!("{id} could not be stopped on {}: {error}", server.name)),
    }
}

/// Cancels a task of this user in the background.
fn cancel_own(sim: &Arc<Sim>, name: &'static str, random: &mut Rng) {
    let is_wanted = |ledger: &Ledger, id: &str| ledger.stop_requested_at(id).is_none();
    if let Some((server, id)) = pick_own(sim, name, random, is_wanted) {
        tokio::spawn(cancel(Arc::clone(sim), server, name, id));
    }
}

async fn cancel(sim: Arc<Sim>, server: Server, name: &'static str, id: String) {
    let number = {
        let mut ledger = sim.ledger();
        let (id, at, done) = (id.clone(), Instant::now(), None);
        ledger.cancels.push(Stop { id, at, done });
        ledger.cancels.len() - 1
    };
    sim.log(|| format!("{name} cancels {id} on {}", server.name));
    let (dead, who) = (server.link.dead(), user(name));
    let response = tokio::select! {
        biased;
        () = dead.cancelled() => return,
        response = server.executor.cancel(&who, &id) => response,
        () = sleep(Duration::from_secs(120)) => return,
    };
    sim.log(|| format!("the cancellation of {id} on {}: {response:?}", server.name));
    if matches!(response, Ok(CancelOutcome::Cancelled)) {
        sim.ledger().cancels[number].done = Some(Instant::now());
    }
}

/// Tries to read and to stop a task of another user.
async fn stop_others(sim: &Arc<Sim>, name: &'static str, random: &mut Rng) {
    let others: Vec<String> = {
        let history = sim.history();
        history
            .tasks()
            .into_iter()
            .filter(|id| history.task(id).user() != name)
            .collect()
    };
    let (Some(server), index) = (sim.servers.any(random), random.usize(..)) else {
        return;
    };
    if others.is_empty() {
        return;
    }
    let id = &others[index % others.len()];
    let (dead, who) = (server.link.dead(), user(name));
    // The other tenant may have created its own objects with this ID.
    let is_own = |uid: &str| sim.history().get(uid).is_some_and(|job| job.is_foreign);
    let seen = server.executor.task(&who, id).ok().flatten();
    let sees_own = seen.is_some_and(|view| view.jobs.iter().all(|job| is_own(&job.uid)));
    let response = tokio::select! {
        biased;
        () = dead.cancelled() => return,
        response = server.executor.stop(&who, id) => response,
    };
    if matches!(response, Ok(true)) && !sees_own {
        invariants::stopped_by_another(sim, &server, name, id);
    }
}

/// Checks that the acknowledged tasks of this user exist.
fn check_own_tasks(sim: &Arc<Sim>, name: &'static str, random: &mut Rng) {
    let Some(server) = sim.servers.any(random) else { return };
    let own = sim.ledger().acknowledged();
    for (id, _, _) in own.into_iter().filter(|(_, user, _)| *user == name) {
        if let Ok(None) = server.executor.task(&user(name), &id) {
            invariants::not_found(sim, &server, &id, Instant::now());
        }
    }
}
