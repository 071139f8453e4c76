//! Deletes the packed files of tasks that have ended: no node starts again, and etcd has little room.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::cache::{TaskOwner, TaskSnapshot};
use crate::controller::ControllerContext;
use crate::error::Error;
use crate::kubernetes::{ConfigMap, Target};
use crate::labels;
use crate::unlabeled::has_unlabeled_job;

/// How often to look. Each time is one list of small objects.
const INTERVAL: Duration = Duration::from_secs(30);

/// Deletes the packed files of tasks that have ended, until shutdown. Kubernetes deletes those of tasks that are gone.
pub(crate) async fn run(context: ControllerContext) {
    let mut ticker = context.ticker(INTERVAL);
    while ticker.tick().await.is_some() {
        if let Err(error) = release_all(&context).await {
            context.warn("release files", || {
                tracing::warn!(%error, "failed to delete the files of tasks that have ended; retrying");
            });
        }
    }
}

type EndedTasks = HashMap<String, (TaskOwner, Arc<TaskSnapshot>)>;

async fn release_all(context: &ControllerContext) -> Result<(), Error> {
    const LIST: &str = "list the files of tasks";
    let sets = context
        .client
        .list::<ConfigMap>(LIST, labels::PACKED_FILES_SELECTOR)
        .await?;
    if sets.is_empty() {
        return Ok(());
    }
    let ended = ended_tasks(context);
    for set in sets {
        if context.stop.is_cancelled() {
            break;
        }
        release(context, &set, &ended).await?;
    }
    Ok(())
}

/// The tasks that have ended for good, by the UID of their owner.
fn ended_tasks(context: &ControllerContext) -> EndedTasks {
    let ended = context.cache.select(|entry| {
        let task = Some(entry.task).filter(|task| task.is_over())?;
        let owner = task.owner()?.clone();
        Some((owner.uid.clone(), (owner, task.snapshot.clone()?)))
    });
    ended.into_iter().collect()
}

/// Deletes a file set if all tasks that own it have ended.
async fn release(context: &ControllerContext, set: &ConfigMap, ended: &EndedTasks) -> Result<(), Error> {
    let metadata = &set.metadata;
    let (Some(name), Some(uid)) = (&metadata.name, &metadata.uid) else {
        return Ok(());
    };
    let owners = metadata.owner_references.iter().flatten();
    let owners: Option<Vec<_>> = owners.map(|owner| ended.get(&owner.uid)).collect();
    let Some(owners) = owners.filter(|owners| !owners.is_empty() && metadata.deletion_timestamp.is_none()) else {
        return Ok(());
    };
    for (owner, snapshot) in owners {
        if has_unlabeled_job(&context.client, owner, &snapshot.jobs).await? {
            return Ok(());
        }
    }
    // More tasks may own it now.
    let target = Target {
        name,
        uid,
        version: metadata.resource_version.as_deref(),
    };
    let deleted = context
        .client
        .delete::<ConfigMap>("delete the files of tasks that have ended", target);
    match deleted.await {
        Err(error) if !error.is_conflict() => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}
