//! Users: they submit, try again when they hear nothing, stop what is theirs, and try to stop what is not.

use std::sync::Arc;
use std::time::Duration;

use executor::{Error, SubmitRequest};
use fastrand::Rng;
use serde_json::json;
use task::{TaskDefinition, UserName};
use tokio::time::{Instant, sleep};

use super::ledger::{Outcome, Stop, Submit};
use super::promises;
use super::server::Server;
use super::sim::{Sim, between, happens, pause};

/// Everybody who uses the servers.
pub const USERS: [&str; 3] = ["alice@example.com", "bob", "mallory"];

/// How often a submit under a key is tried.
const TRIES: usize = 6;

/// A name as it comes with a request.
pub fn user(name: &str) -> UserName {
    UserName::parse(name).unwrap()
}

/// What a user may ask for.
struct Wish {
    number: usize,
    definition: TaskDefinition,
}

/// Lets one user do things until it gets quiet.
pub async fn use_servers(sim: Arc<Sim>, name: &'static str, index: usize) {
    let mut random = sim.random(("user", name));
    let mut number = index * 1000;
    pause(&mut random, 500, 6000).await;
    while sim.is_active() {
        match random.u8(0..10) {
            0..=4 => {
                number += 1;
                let wish = wish(&sim, &mut random, number);
                let key = random.bool().then(|| format!("key-{number}"));
                let other = (key.is_some() && happens(&mut random, 0.15)).then(|| {
                    number += 1;
                    self::wish(&sim, &mut random, number)
                });
                let seed = random.u64(..);
                tokio::spawn(ask(Arc::clone(&sim), name, key, wish, other, seed));
            }
            5 | 6 => stop_own(&sim, name, &mut random),
            7 => stop_others(&sim, name, &mut random).await,
            8 => look(&sim, name, &mut random),
            _ => {}
        }
        pause(&mut random, 200, 11_000).await;
    }
}

/// Something to ask for. Its number is in the variables of its containers, so that what was made for it can be found.
fn wish(sim: &Sim, random: &mut Rng, number: usize) -> Wish {
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
    let definition = TaskDefinition::parse(&body, 10).unwrap();
    Wish { number, definition }
}

/// Submits; under a key as often as it takes, on any server. `other` is what somebody asks for under the same key meanwhile.
async fn ask(sim: Arc<Sim>, name: &'static str, key: Option<String>, wish: Wish, other: Option<Wish>, seed: u64) {
    let mut random = Rng::with_seed(seed);
    if let Some(other) = other {
        let (sim, key, mut random) = (Arc::clone(&sim), key.clone(), random.fork());
        tokio::spawn(async move {
            pause(&mut random, 0, 3000).await;
            submit(&sim, name, key, &other, &mut random).await;
        });
    }
    if key.is_none() {
        submit(&sim, name, None, &wish, &mut random).await;
        return;
    }
    if happens(&mut random, 0.3) {
        // Impatience: a second try on its way beside the first.
        let (sim, key, mut random) = (Arc::clone(&sim), key.clone(), random.fork());
        let wish = Wish {
            number: wish.number,
            definition: wish.definition.clone(),
        };
        tokio::spawn(async move {
            pause(&mut random, 0, 2000).await;
            submit(&sim, name, key, &wish, &mut random).await;
        });
    }
    for _ in 0..TRIES {
        match submit(&sim, name, key.clone(), &wish, &mut random).await {
            Outcome::Open | Outcome::Lost | Outcome::Refused { is_reuse: false, .. } => {}
            Outcome::Made { .. } | Outcome::Refused { .. } => break,
        }
        pause(&mut random, 100, 6000).await;
    }
    // Some ask again although they know.
    if happens(&mut random, 0.2) {
        pause(&mut random, 0, 10_000).await;
        submit(&sim, name, key, &wish, &mut random).await;
    }
}

async fn submit(sim: &Arc<Sim>, name: &'static str, key: Option<String>, wish: &Wish, random: &mut Rng) -> Outcome {
    let Some(server) = sim.servers.any(random) else {
        return Outcome::Lost;
    };
    let number = {
        let mut ledger = sim.ledger();
        ledger.submits.push(Submit {
            user: name,
            key: key.clone(),
            definition: wish.number,
            server: server.name.clone(),
            outcome: Outcome::Open,
        });
        ledger.submits.len() - 1
    };
    let what = format!("{name} submits {} under {key:?} to {}", wish.number, server.name);
    sim.tell(|| format!("{what} ({} nodes)", wish.definition.num_nodes));
    let request = SubmitRequest {
        user: user(name),
        definition: wish.definition.clone(),
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
        answer = server.executor.submit(request) => match answer {
            Ok(made) => Outcome::Made { id: made.id, at: Instant::now() },
            Err(error) => Outcome::Refused {
                is_reuse: matches!(error, Error::IdempotencyKeyReused | Error::IdempotencyKeyTaken),
                why: error.to_string(),
                at: Instant::now(),
            },
        },
        () = sleep(patience) => Outcome::Lost,
    };
    match &outcome {
        Outcome::Made { id, .. } => sim.tell(|| format!("{what}: {id}")),
        Outcome::Refused { why, .. } => sim.tell(|| format!("{what}: refused, {why}")),
        Outcome::Lost | Outcome::Open => sim.tell(|| format!("{what}: no answer")),
    }
    sim.ledger().submits[number].outcome = outcome.clone();
    if let Outcome::Made { id, .. } = &outcome {
        promises::made(sim, &server, name, id);
    }
    outcome
}

/// Begins to stop a task of this user.
fn stop_own(sim: &Arc<Sim>, name: &'static str, random: &mut Rng) {
    let own: Vec<String> = {
        let ledger = sim.ledger();
        let own = ledger
            .acknowledged()
            .into_iter()
            .filter(|(id, user, _)| *user == name && ledger.stopped(id).is_none());
        own.map(|(id, _, _)| id).collect()
    };
    let (Some(server), index) = (sim.servers.any(random), random.usize(..)) else {
        return;
    };
    if !own.is_empty() {
        let id = own[index % own.len()].clone();
        tokio::spawn(stop(Arc::clone(sim), server, name, id));
    }
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
    sim.tell(|| format!("{name} stops {id} on {}", server.name));
    let (dead, who) = (server.link.dead(), user(name));
    let answer = tokio::select! {
        biased;
        () = dead.cancelled() => return,
        answer = server.executor.stop(&who, &id) => answer,
        () = sleep(Duration::from_secs(120)) => return,
    };
    match answer {
        Ok(true) => {
            sim.ledger().stops[number].done = Some(Instant::now());
            sim.tell(|| format!("{name} has stopped {id} on {}", server.name));
            promises::stopped(&sim, &server, name, &id);
        }
        Ok(false) => {
            sim.tell(|| format!("{} knows no {id} of {name}", server.name));
            promises::unknown(&sim, &server, &id, at);
        }
        Err(error) => sim.tell(|| format!("{id} could not be stopped on {}: {error}", server.name)),
    }
}

/// Tries to stop, and to see, a task of somebody else.
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
    // The tenant may have made something of its own under this identifier.
    let is_own = |uid: &str| sim.history().get(uid).is_some_and(|job| job.by_stranger);
    let seen = server.executor.task(&who, id).ok().flatten();
    let sees_own = seen.is_some_and(|view| view.jobs.iter().all(|job| is_own(&job.uid)));
    let answer = tokio::select! {
        biased;
        () = dead.cancelled() => return,
        answer = server.executor.stop(&who, id) => answer,
    };
    if matches!(answer, Ok(true)) && !sees_own {
        promises::stopped_by_another(sim, &server, name, id);
    }
}

/// Looks whether what was acknowledged a while ago is there.
fn look(sim: &Arc<Sim>, name: &'static str, random: &mut Rng) {
    let Some(server) = sim.servers.any(random) else { return };
    let own = sim.ledger().acknowledged();
    for (id, _, _) in own.into_iter().filter(|(_, user, _)| *user == name) {
        if let Ok(None) = server.executor.task(&user(name), &id) {
            promises::unknown(sim, &server, &id, Instant::now());
        }
    }
}
