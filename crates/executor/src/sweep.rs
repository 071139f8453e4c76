//! Removing what is left of tasks: the server that was creating or stopping them has ended, or somebody has deleted all of their
//! Jobs.

use std::time::Duration;

use jiff::SignedDuration;

use crate::cache::{TaskOwner, View};
use crate::error::Error;
use crate::hidden::{has_hidden_job, is_owned};
use crate::kubernetes::{self, Calls, ConfigMap, Target};
use crate::stop;
use crate::suspicions::Suspicions;
use crate::ticks::Background;
use crate::{cache, labels};

/// How often owners are looked at. It is a look into memory.
const INTERVAL: Duration = Duration::from_secs(2);

/// How long after its deadline an owner is left alone: clocks of two replicas may differ.
const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_secs(5);

/// Removes the uncommitted owners whose deadline is over, and those of tasks without a Job, and ends what a finalizer keeps from
/// going, until the process stops.
pub(crate) async fn sweep(background: Background) {
    let mut ticks = background.every(INTERVAL);
    let mut suspicions = Suspicions::default();
    while ticks.next().await.is_some() {
        for owner in background.cache.abandoned(background.calls.now() - CLOCK_TOLERANCE) {
            let removed = remove(&background.calls, &owner).await;
            told(&background, &owner, "its creation was never finished", removed);
        }
        for (_, owner) in suspicions.lasting(background.cache.emptied()) {
            let removed = remove_empty(&background.calls, &owner).await;
            told(&background, &owner, "all of its Jobs were deleted", removed);
        }
        for (view, pods) in background.cache.terminating() {
            if let Err(error) = finish(&background, &view, &pods).await {
                background.warn(&format!("finish {}", view.key.id), || {
                    tracing::warn!(task_id = %view.key.id, %error, "a stopped task could not be ended; trying again");
                });
            }
        }
    }
}

/// Ends a stop that another process has begun, or a person: the owner is deleted, and its Jobs go with it.
async fn finish(background: &Background, view: &View, pods: &[cache::Pod]) -> Result<(), Error> {
    if view.is_disowned {
        return stop::stop(&background.calls, &background.cache, view).await;
    }
    stop::end_pods(&background.calls, pods).await
}

/// The watch of Jobs may be behind the one of owners, and does not show a Job that has lost its labels: Kubernetes itself is asked
/// first, for whatever the owner owns.
async fn remove_empty(calls: &Calls, owner: &TaskOwner) -> Result<bool, Error> {
    let selector = format!("{}={}", labels::TASK_ID, owner.key.id);
    let jobs = calls.list::<kubernetes::Job>("look at a task again", &selector).await?;
    if jobs.iter().any(|job| is_owned(job, owner)) || has_hidden_job(calls, owner, |_| false).await? {
        return Ok(false);
    }
    remove(calls, owner).await
}

/// Whether it was removed: the version makes this lose against a commit that arrives at the same time.
async fn remove(calls: &Calls, owner: &TaskOwner) -> Result<bool, Error> {
    let target = Target {
        name: &owner.name,
        uid: &owner.uid,
        version: Some(&owner.version),
    };
    match calls.delete::<ConfigMap>("remove what is left of a task", target).await {
        Ok(_) => Ok(true),
        Err(error) if error.is_conflict() => Ok(false),
        Err(error) => Err(error),
    }
}

fn told(background: &Background, owner: &TaskOwner, why: &str, removed: Result<bool, Error>) {
    let task_id = &*owner.key.id;
    match removed {
        Ok(true) => tracing::warn!(task_id, why, "removed what was left of a task"),
        Ok(false) => {}
        Err(error) => background.warn(&format!("sweep {task_id}"), || {
            tracing::warn!(task_id, why, %error, "what is left of a task could not be removed; trying again");
        }),
    }
}
