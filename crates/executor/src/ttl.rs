//! Deletes finished tasks after their time to live.
//!
//! A single Job without an owner has `ttlSecondsAfterFinished`, so Kubernetes deletes it. The Jobs of other tasks
//! finish at different times and must be deleted together, with their owner. With an archive, all tasks are deleted
//! here, and only once they are archived.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::cache::{Task, TaskOwner, TaskSnapshot};
use crate::controller::ControllerContext;
use crate::error::Error;
use crate::kubernetes::ConfigMap;
use crate::stop;
use crate::unlabeled::has_unlabeled_job;

/// How often to look for expired tasks. A check only reads the cache.
const INTERVAL: Duration = Duration::from_secs(5);

/// Deletes expired tasks until shutdown.
pub(crate) async fn run(context: ControllerContext) {
    let mut ticker = context.ticker(INTERVAL);
    while ticker.tick().await.is_some() {
        for (snapshot, owner) in expired_tasks(&context) {
            if context.stop.is_cancelled() {
                break;
            }
            let task_id = &*snapshot.key.id;
            match delete(&context, &snapshot, owner.as_ref()).await {
                Ok(true) => tracing::info!(event = "task_expired", task_id, "deleted an expired task"),
                Ok(false) => {}
                Err(error) if error.is_conflict() => {}
                Err(error) => context.warn(&format!("expire {task_id}"), || {
                    tracing::warn!(task_id, %error, "failed to delete an expired task; retrying");
                }),
            }
        }
    }
}

/// The tasks whose time to live has elapsed. Kubernetes may delete some of them, too; it does not know that of tasks that
/// were submitted while there was an archive.
fn expired_tasks(context: &ControllerContext) -> Vec<(Arc<TaskSnapshot>, Option<TaskOwner>)> {
    let (archiver, now) = (context.archiver.as_ref(), context.client.now());
    let expired = context.cache.select(|entry| {
        // The next task of a pipeline starts only while the one before is there.
        let task = Some(entry.task).filter(|task| is_expired(task, now) && !entry.has_unfinished_group())?;
        Some((task.snapshot.clone()?, task.owner().cloned()))
    });
    let is_ours = |(snapshot, _): &(Arc<TaskSnapshot>, Option<TaskOwner>)| match archiver {
        Some(archiver) if archiver.is_archived(&snapshot.key) => true,
        // On a full disk, its log and the archive would wait for each other.
        Some(archiver) => {
            archiver.hurry(&snapshot.key);
            false
        }
        None => true,
    };
    expired.into_iter().filter(is_ours).collect()
}

fn is_expired(task: &Task, now: Timestamp) -> bool {
    let jobs = task.current_jobs();
    let Some(seconds) = jobs.first().and_then(|job| job.ttl_after_finished) else {
        return false;
    };
    let end = jobs.iter().filter_map(|job| job.ended_at).max();
    let is_long_ago = |end: Timestamp| now.duration_since(end) >= SignedDuration::from_secs(seconds.into());
    task.is_over() && !task.is_terminating() && end.is_some_and(is_long_ago)
}

/// Deletes the task, and returns whether it did. The owner is deleted only in the version that was seen, because
/// starting another attempt changes it. A task with a Job that lost its labels is kept: that Job may still run.
async fn delete(
    context: &ControllerContext,
    snapshot: &TaskSnapshot,
    owner: Option<&TaskOwner>,
) -> Result<bool, Error> {
    if let Some(owner) = owner {
        if has_unlabeled_job(&context.client, owner, &snapshot.jobs).await? {
            return Ok(false);
        }
        context
            .client
            .delete::<ConfigMap>("delete the expired task", owner.this_version())
            .await?;
    }
    stop::delete(&context.client, &context.cache, snapshot).await?;
    Ok(true)
}
