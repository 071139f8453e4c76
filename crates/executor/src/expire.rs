//! Deletes finished tasks after their time to live.
//!
//! A single Job without an owner has `ttlSecondsAfterFinished`, so Kubernetes deletes it. The Jobs of other tasks
//! finish at different times and must be deleted together, with their owner.

use std::time::Duration;

use crate::cache::{TaskOwner, View};
use crate::error::Error;
use crate::hidden::has_hidden_job;
use crate::kubernetes::{ConfigMap, Target};
use crate::stop;
use crate::ticks::Background;

/// How often to look for expired tasks. A check only reads the cache.
const INTERVAL: Duration = Duration::from_secs(5);

/// Deletes expired tasks until shutdown.
pub(crate) async fn expire(background: Background) {
    let mut ticks = background.every(INTERVAL);
    while ticks.next().await.is_some() {
        for (view, owner) in background.cache.expired(background.calls.now()) {
            if background.stop.is_cancelled() {
                break;
            }
            let task_id = &*view.key.id;
            match delete(&background, &view, &owner).await {
                Ok(true) => tracing::info!(event = "task_expired", task_id, "deleted an expired task"),
                Ok(false) => {}
                Err(error) if error.is_conflict() => {}
                Err(error) => background.warn(&format!("expire {task_id}"), || {
                    tracing::warn!(task_id, %error, "failed to delete an expired task; retrying");
                }),
            }
        }
    }
}

/// Deletes the task, and returns whether it did. The owner is deleted only in the version that was seen, because
/// starting another attempt changes it. A task with a Job that lost its labels is kept: that Job may still run.
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
        .delete::<ConfigMap>("delete the expired task", target)
        .await?;
    stop::stop(&background.calls, &background.cache, view).await?;
    Ok(true)
}
