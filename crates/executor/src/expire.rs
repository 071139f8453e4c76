//! Deleting tasks that ended long enough ago.
//!
//! A task that is one Job alone says so in its `ttlSecondsAfterFinished`, and Kubernetes deletes it. The Jobs of others are a
//! whole, which ends with its last Job, and goes with its owner.

use std::time::Duration;

use crate::cache::{TaskOwner, View};
use crate::error::Error;
use crate::hidden::has_hidden_job;
use crate::kubernetes::{ConfigMap, Target};
use crate::stop;
use crate::ticks::Background;

/// How often they are looked for. It is a look into memory.
const INTERVAL: Duration = Duration::from_secs(5);

/// Deletes tasks whose time is over, until the process stops.
pub(crate) async fn expire(background: Background) {
    let mut ticks = background.every(INTERVAL);
    while ticks.next().await.is_some() {
        for (view, owner) in background.cache.expired(background.calls.now()) {
            if background.stop.is_cancelled() {
                break;
            }
            let task_id = &*view.key.id;
            match delete(&background, &view, &owner).await {
                Ok(true) => tracing::info!(event = "task_expired", task_id, "deleted a task that ended long ago"),
                Ok(false) => {}
                Err(error) if error.is_conflict() => {}
                Err(error) => background.warn(&format!("expire {task_id}"), || {
                    tracing::warn!(task_id, %error, "a task that ended long ago is still there");
                }),
            }
        }
    }
}

/// Whether it was deleted. The owner goes in the version that was seen: a task that has begun another attempt meanwhile has another
/// one. A Job that has lost its labels may still run.
async fn delete(background: &Background, view: &View, owner: &TaskOwner) -> Result<bool, Error> {
    let is_seen = |name: &str| view.jobs.iter().any(|(seen, _)| seen == name);
    if has_hidden_job(&background.calls, owner, is_seen).await? {
        return Ok(false);
    }
    let target = Target {
        name: &owner.name,
        uid: &owner.uid,
        version: Some(&owner.version),
    };
    background
        .calls
        .delete::<ConfigMap>("delete a task that ended long ago", target)
        .await?;
    stop::stop(&background.calls, &background.cache, view).await?;
    Ok(true)
}
