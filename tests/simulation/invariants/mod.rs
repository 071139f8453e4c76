//! What servers guarantee. It is checked after each change, every few seconds, and at the end.

mod changes;
mod end;
mod views;

pub(crate) use changes::{changed, started};
pub(crate) use end::{check_at_end, is_settled};
pub(crate) use views::check_responses;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::clients::user;
use super::history::{History, Kind, Object, Task};
use super::ledger::Ledger;
use super::server::Server;
use super::sim::Sim;

/// Maximum age of a response.
const MAX_AGE: Duration = Duration::from_secs(10);

/// Maximum delay of the watches that the checks use.
const WATCH_DELAY: Duration = Duration::from_millis(1);

pub(crate) const PERSISTENCE: &str = "an acknowledged task exists until it is stopped";
pub(crate) const IDEMPOTENCY: &str = "one idempotency key creates one task";
pub(crate) const CLEANUP: &str = "a rejected submit leaves no objects behind";
pub(crate) const NO_DISRUPTION: &str = "only a failure, a deadline, or its user ends an attempt that has started";
pub(crate) const STOP: &str = "a stopped task is deleted on all servers and never returns";
pub(crate) const CANCEL: &str = "a canceled task ends, is not retried, and stays";
pub(crate) const ISOLATION: &str = "no user sees or stops a task of another user, and foreign objects are ignored";
pub(crate) const FRESHNESS: &str = "no response is older than its limit";
pub(crate) const READ_YOUR_WRITES: &str = "a server knows the task that it has just acknowledged";
pub(crate) const GANG_START: &str = "the nodes of a gang start when all of them run";
pub(crate) const CONVERGENCE: &str = "all servers converge to the state of Kubernetes";
pub(crate) const GROUP_ORDER: &str = "a task of a group starts after the one before it, and within the limit";
pub(crate) const GROUP_LIVENESS: &str = "a group that can make progress does";
pub(crate) const LIVENESS: &str = "a gang that can make progress does";

/// Checks a task that a server has just acknowledged.
pub(crate) fn submitted(sim: &Arc<Sim>, server: &Server, name: &'static str, id: &str) {
    let (sim, server, id) = (Arc::clone(sim), server.clone(), id.to_owned());
    if id.is_empty() {
        sim.timeline.violated(
            PERSISTENCE,
            format!("{} has acknowledged a task without an ID", server.name),
        );
    }
    tokio::spawn(async move {
        let is_known = matches!(server.executor.task(&user(name), &id), Ok(Some(_)) | Err(_));
        sleep(WATCH_DELAY).await;
        let (history, ledger) = (sim.history(), sim.ledger());
        let task = history.task(&id);
        if may_be_gone(&sim, &ledger, &task, &id) {
            return;
        }
        if !task.exists() {
            sim.timeline.violated(
                PERSISTENCE,
                format!("{id} was acknowledged by {} and does not exist", server.name),
            );
        } else if !is_known && task.is_untouched_since(Instant::now() - MAX_AGE) {
            sim.timeline
                .violated(READ_YOUR_WRITES, format!("{} does not know {id}", server.name));
        }
        for other in ledger.acknowledged() {
            check_key(&sim, &ledger, &id, &other.0);
        }
    });
}

/// Checks that two acknowledged tasks have different keys, unless one was stopped.
fn check_key(sim: &Sim, ledger: &Ledger, id: &str, other: &str) {
    let key = |id: &str| {
        ledger.submits.iter().find_map(|submit| match &submit.outcome {
            super::ledger::Outcome::Created { id: made, .. } if made == id => Some((submit.user, submit.key.clone()?)),
            _ => None,
        })
    };
    let is_same = id != other && key(id).is_some() && key(id) == key(other);
    let is_over = |id: &str| ledger.stop_requested_at(id).is_some() || sim.time_to_live.is_some();
    if is_same && !is_over(id) && !is_over(other) {
        sim.timeline.violated(
            IDEMPOTENCY,
            format!("{other} and {id} were acknowledged for the key {:?}", key(id)),
        );
    }
}

/// Whether a task may be deleted: its user has stopped it, or it has finished and there is a TTL.
fn may_be_gone(sim: &Sim, ledger: &Ledger, task: &Task<'_>, id: &str) -> bool {
    // A Job that is suspended when its task ends has no pods, and Kubernetes never sets an end on it.
    let is_left_suspended = |job: &Object| {
        let marks = ["k8s-cli/provision-timed-out", "k8s-cli/ended-because-of-node"];
        job.value["spec"]["suspend"] == true && marks.iter().any(|mark| job.annotation(mark).is_some())
    };
    let mut jobs = task.latest_jobs();
    let has_ended = task.latest_jobs().next().is_some() && jobs.all(|job| job.has_ended() || is_left_suspended(job));
    ledger.stop_requested_at(id).is_some() || (sim.time_to_live.is_some() && has_ended)
}

/// Checks a task that a server has just stopped.
pub(crate) fn stopped(sim: &Arc<Sim>, server: &Server, name: &'static str, id: &str) {
    if let Ok(Some(view)) = server.executor.task(&user(name), id)
        && !view.terminating
    {
        sim.timeline
            .violated(STOP, format!("{} shows {id}, which it has just stopped", server.name));
    }
    let (sim, name, id) = (Arc::clone(sim), server.name.clone(), id.to_owned());
    tokio::spawn(async move {
        sleep(WATCH_DELAY).await;
        let history = sim.history();
        let task = history.task(&id);
        let is_left = task.jobs.iter().any(|job| job.exists()) || task.owner.is_some_and(|owner| owner.exists());
        if is_left {
            sim.timeline
                .violated(STOP, format!("{id} was stopped by {name} and still exists"));
        }
    });
}

/// A server has stopped a task of another user.
pub(crate) fn stopped_by_another(sim: &Sim, server: &Server, name: &str, id: &str) {
    sim.timeline
        .violated(ISOLATION, format!("{name} has stopped {id} on {}", server.name));
}

/// Checks a response that a task does not exist.
pub(crate) fn not_found(sim: &Arc<Sim>, server: &Server, id: &str, asked_at: Instant) {
    let (history, ledger) = (sim.history(), sim.ledger());
    let task = history.task(id);
    let bound = asked_at - MAX_AGE;
    let is_old = task.visible_since().is_some_and(|since| since < bound);
    if is_old && task.exists() && task.is_untouched_since(bound) && !may_be_gone(sim, &ledger, &task, id) {
        sim.timeline
            .violated(FRESHNESS, format!("{} does not know {id}", server.name));
    }
}

/// Whether a node of an attempt has failed, so that all nodes must end.
fn has_failed(history: &History, id: &str, attempt: u32) -> bool {
    let mut pods = history.of(Kind::Pod, id).filter(|pod| pod.attempt == attempt);
    let mut jobs = history.of(Kind::Job, id).filter(|job| job.attempt == attempt);
    pods.any(|pod| pod.phase() == "Failed" || pod.has_condition("DisruptionTarget"))
        || jobs.any(|job| job.has_condition("Failed") || job.has_condition("FailureTarget"))
}

/// Whether the script of the user has started in an attempt.
fn has_started(history: &History, id: &str, attempt: u32) -> bool {
    history
        .of(Kind::Pod, id)
        .any(|pod| pod.attempt == attempt && pod.started_at.is_some())
}
