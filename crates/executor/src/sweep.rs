//! Removing what is left of tasks: the server that was creating them has ended, or somebody has deleted all of their Jobs.

use std::time::Duration;

use jiff::Timestamp;

use crate::cache::TaskOwner;
use crate::error::Error;
use crate::kubernetes::{ConfigMap, Job};
use crate::labels;
use crate::suspicions::Suspicions;
use crate::ticks::Background;

/// How often owners are looked at. It is a look into memory.
const INTERVAL: Duration = Duration::from_secs(2);

/// How long after its deadline an owner is left alone: clocks of two replicas may differ.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(5);

/// Removes the uncommitted owners whose deadline is over, and those of tasks without a Job, until the process stops.
pub(crate) async fn sweep(background: Background) {
    let mut ticks = background.every(INTERVAL);
    let mut suspicions = Suspicions::default();
    while ticks.next().await.is_some() {
        for owner in background.cache.abandoned(Timestamp::now() - CLOCK_TOLERANCE) {
            log(
                &owner,
                "its creation was never finished",
                remove(&background, &owner).await,
            );
        }
        for (_, owner) in suspicions.lasting(background.cache.emptied()) {
            log(
                &owner,
                "all of its Jobs were deleted",
                remove_empty(&background, &owner).await,
            );
        }
    }
}

/// The watch of Jobs may be behind the one of owners, so that Kubernetes itself is asked first.
async fn remove_empty(background: &Background, owner: &TaskOwner) -> Result<bool, Error> {
    let selector = format!("{}={}", labels::TASK_ID, owner.task_id);
    let jobs = background.calls.list::<Job>("look at a task again", &selector).await?;
    if jobs.is_empty() {
        remove(background, owner).await
    } else {
        Ok(false)
    }
}

/// Whether it was removed: the version makes this lose against a commit that arrives at the same time.
async fn remove(background: &Background, owner: &TaskOwner) -> Result<bool, Error> {
    let calls = &background.calls;
    let deleted = calls.delete::<ConfigMap>(
        "remove what is left of a task",
        &owner.name,
        &owner.uid,
        Some(&owner.version),
    );
    match deleted.await {
        Ok(()) => Ok(true),
        Err(error) if error.is_conflict() => Ok(false),
        Err(error) => Err(error),
    }
}

fn log(owner: &TaskOwner, why: &str, removed: Result<bool, Error>) {
    let task_id = &owner.task_id;
    match removed {
        Ok(true) => tracing::warn!(task_id, why, "removed what was left of a task"),
        Ok(false) => {}
        Err(error) => tracing::warn!(task_id, why, %error, "what is left of a task could not be removed; trying again"),
    }
}
