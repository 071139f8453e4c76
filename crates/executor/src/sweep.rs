//! Removes the remains of tasks: of submits and stops that a server did not complete, and of tasks whose Jobs were all
//! deleted.

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

/// How often owners are checked. A check only reads the cache.
const INTERVAL: Duration = Duration::from_secs(2);

/// How long to spare an owner after its deadline, because the clocks of two servers may differ.
const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_secs(5);

/// Removes uncommitted owners after their deadline and owners without Jobs, and completes interrupted stops, until
/// shutdown.
pub(crate) async fn sweep(background: Background) {
    let mut ticks = background.every(INTERVAL);
    let mut suspicions = Suspicions::default();
    while ticks.next().await.is_some() {
        for owner in background.cache.abandoned(background.calls.now() - CLOCK_TOLERANCE) {
            let removed = remove(&background.calls, &owner).await;
            told(&background, &owner, "its creation did not complete", removed);
        }
        for (_, owner) in suspicions.lasting(background.cache.emptied()) {
            let removed = remove_empty(&background.calls, &owner).await;
            told(&background, &owner, "all of its Jobs were deleted", removed);
        }
        for (view, pods) in background.cache.terminating() {
            if let Err(error) = finish(&background, &view, &pods).await {
                background.warn(&format!("finish {}", view.key.id), || {
                    tracing::warn!(task_id = %view.key.id, %error, "failed to finish stopping a task; retrying");
                });
            }
        }
    }
}

/// Completes a stop that another server or a user began by deleting the owner.
async fn finish(background: &Background, view: &View, pods: &[cache::Pod]) -> Result<(), Error> {
    if view.is_disowned {
        return stop::stop(&background.calls, &background.cache, view).await;
    }
    stop::end_pods(&background.calls, pods).await
}

/// Removes an owner without Jobs. The Job watch may lag behind the owner watch, and does not show Jobs that lost their
/// labels, so Kubernetes is asked first.
async fn remove_empty(calls: &Calls, owner: &TaskOwner) -> Result<bool, Error> {
    let selector = format!("{}={}", labels::TASK_ID, owner.key.id);
    let jobs = calls.list::<kubernetes::Job>("refresh the task", &selector).await?;
    if jobs.iter().any(|job| is_owned(job, owner)) || has_hidden_job(calls, owner, |_| false).await? {
        return Ok(false);
    }
    remove(calls, owner).await
}

/// Removes the owner, and returns whether it did. The precondition on the version makes it lose against a concurrent
/// commit.
async fn remove(calls: &Calls, owner: &TaskOwner) -> Result<bool, Error> {
    let target = Target {
        name: &owner.name,
        uid: &owner.uid,
        version: Some(&owner.version),
    };
    match calls
        .delete::<ConfigMap>("remove the remains of the task", target)
        .await
    {
        Ok(_) => Ok(true),
        Err(error) if error.is_conflict() => Ok(false),
        Err(error) => Err(error),
    }
}

fn told(background: &Background, owner: &TaskOwner, why: &str, removed: Result<bool, Error>) {
    let task_id = &*owner.key.id;
    match removed {
        Ok(true) => tracing::warn!(task_id, why, "removed the remains of a task"),
        Ok(false) => {}
        Err(error) => background.warn(&format!("sweep {task_id}"), || {
            tracing::warn!(task_id, why, %error, "failed to remove the remains of a task; retrying");
        }),
    }
}
