//! What servers promise, and whether they keep it: looked at whenever something has happened, each second, and at the end.

mod changes;
mod end;
mod views;

pub use changes::{begins, changed};
pub use end::{is_settled, kept_at_the_end};
pub use views::look;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::clients::user;
use super::history::{History, Kind, Task};
use super::ledger::Ledger;
use super::server::Server;
use super::sim::Sim;

/// How old a server's answer may be.
const BOUND: Duration = Duration::from_secs(10);

/// How long the one who looks may be behind.
const MOMENT: Duration = Duration::from_millis(1);

/// An acknowledged task stays.
pub const STAYS: &str = "an acknowledged task that nobody stopped is there";
/// One key, one task.
pub const ONE_KEY: &str = "one idempotency key makes one task";
/// Refused is refused.
pub const REFUSED: &str = "what was refused leaves nothing behind";
/// Only its own failure, a stop or its deadline ends what has begun.
pub const BEGUN: &str = "what has begun is ended by its failure, its deadline or its user only";
/// Stopped is stopped.
pub const STOPPED: &str = "a stopped task is gone, everywhere and for good";
/// Users are kept apart.
pub const APART: &str = "nobody sees or stops a task of another user, and nothing of a stranger counts";
/// Answers are true.
pub const FRESH: &str = "no answer is older than its bound";
/// A server knows what it has said.
pub const OWN_WORD: &str = "a server knows the task that it has just acknowledged";
/// All begin together.
pub const TOGETHER: &str = "the nodes of a gang begin when all run";
/// In the end everybody knows the same.
pub const AGREE: &str = "in the end all servers agree with Kubernetes";
/// What can go on goes on.
pub const GOES_ON: &str = "what can go on goes on";

/// A user was told that a task exists.
pub fn made(sim: &Arc<Sim>, server: &Server, name: &'static str, id: &str) {
    let (sim, server, id) = (Arc::clone(sim), server.clone(), id.to_owned());
    if id.is_empty() {
        sim.timeline.violated(
            STAYS,
            format!("{} has acknowledged a task without an identifier", server.name),
        );
    }
    tokio::spawn(async move {
        let is_known = matches!(server.executor.task(&user(name), &id), Ok(Some(_)) | Err(_));
        sleep(MOMENT).await;
        let (history, ledger) = (sim.history(), sim.ledger());
        let task = history.task(&id);
        if is_let_go(&sim, &ledger, &task, &id) {
            return;
        }
        if !task.is_there() {
            sim.timeline.violated(
                STAYS,
                format!("{id} was acknowledged by {} and is not there", server.name),
            );
        } else if !is_known && task.is_untouched_since(Instant::now() - BOUND) {
            sim.timeline
                .violated(OWN_WORD, format!("{} does not know {id}", server.name));
        }
        for other in ledger.acknowledged() {
            check_key(&sim, &ledger, &id, &other.0);
        }
    });
}

/// Two tasks that were acknowledged for one key, of which nobody has stopped the first.
fn check_key(sim: &Sim, ledger: &Ledger, id: &str, other: &str) {
    let key = |id: &str| {
        ledger.submits.iter().find_map(|submit| match &submit.outcome {
            super::ledger::Outcome::Made { id: made, .. } if made == id => Some((submit.user, submit.key.clone()?)),
            _ => None,
        })
    };
    let is_same = id != other && key(id).is_some() && key(id) == key(other);
    let is_over = |id: &str| ledger.stop_asked(id).is_some() || sim.time_to_live.is_some();
    if is_same && !is_over(id) && !is_over(other) {
        sim.timeline.violated(
            ONE_KEY,
            format!("{other} and {id} were acknowledged for the key {:?}", key(id)),
        );
    }
}

/// Whether a task may be gone: its user has asked for that, or it ended long ago.
fn is_let_go(sim: &Sim, ledger: &Ledger, task: &Task<'_>, id: &str) -> bool {
    let has_ended = task.present().next().is_some() && task.present().all(super::history::Object::has_ended);
    ledger.stop_asked(id).is_some() || (sim.time_to_live.is_some() && has_ended)
}

/// A user was told that a task is stopped.
pub fn stopped(sim: &Arc<Sim>, server: &Server, name: &'static str, id: &str) {
    if let Ok(Some(view)) = server.executor.task(&user(name), id)
        && !view.terminating
    {
        sim.timeline.violated(
            STOPPED,
            format!("{} shows {id}, which it has just stopped", server.name),
        );
    }
    let (sim, name, id) = (Arc::clone(sim), server.name.clone(), id.to_owned());
    tokio::spawn(async move {
        sleep(MOMENT).await;
        let history = sim.history();
        let task = history.task(&id);
        let is_left = task.jobs.iter().any(|job| job.is_there()) || task.owner.is_some_and(|owner| owner.is_there());
        if is_left {
            sim.timeline
                .violated(STOPPED, format!("{id} was stopped by {name} and is there"));
        }
    });
}

/// A user was told that a task of somebody else is stopped.
pub fn stopped_by_another(sim: &Sim, server: &Server, name: &str, id: &str) {
    sim.timeline
        .violated(APART, format!("{name} has stopped {id} on {}", server.name));
}

/// A server says that there is no such task.
pub fn unknown(sim: &Arc<Sim>, server: &Server, id: &str, asked_at: Instant) {
    let (history, ledger) = (sim.history(), sim.ledger());
    let task = history.task(id);
    let bound = asked_at - BOUND;
    let is_old = task.visible_since().is_some_and(|since| since < bound);
    if is_old && task.is_there() && task.is_untouched_since(bound) && !is_let_go(sim, &ledger, &task, id) {
        sim.timeline
            .violated(FRESH, format!("{} does not know {id}", server.name));
    }
}

/// Whether something has gone wrong in an attempt of a task, so that all of it is to end.
fn has_failed(history: &History, id: &str, attempt: u32) -> bool {
    let mut pods = history.of(Kind::Pod, id).filter(|pod| pod.attempt == attempt);
    let mut jobs = history.of(Kind::Job, id).filter(|job| job.attempt == attempt);
    pods.any(|pod| pod.phase() == "Failed" || pod.has_condition("DisruptionTarget"))
        || jobs.any(|job| job.has_condition("Failed") || job.has_condition("FailureTarget"))
}

/// Whether the user's code has begun in an attempt.
fn has_begun(history: &History, id: &str, attempt: u32) -> bool {
    history
        .of(Kind::Pod, id)
        .any(|pod| pod.attempt == attempt && pod.begun.is_some())
}
