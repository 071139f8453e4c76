//! Removes the remains of tasks: of submits and stops that a server did not complete, and of tasks whose Jobs were all
//! deleted.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::cache::{Cache, Phase, Pod, TaskKey, TaskOwner, TaskSnapshot};
use crate::controller::ControllerContext;
use crate::debounce::Debounce;
use crate::error::Error;
use crate::kubernetes::{self, ApiClient, ConfigMap};
use crate::labels;
use crate::stop;
use crate::unlabeled::{has_unlabeled_job, is_owned};

/// How often owners are checked. A check only reads the cache.
const INTERVAL: Duration = Duration::from_secs(2);

/// How long to spare an owner after its deadline, because the clocks of two servers may differ.
const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_secs(5);

/// Removes uncommitted owners after their deadline and owners without Jobs, and completes interrupted stops, until
/// shutdown.
pub(crate) async fn run(context: ControllerContext) {
    let mut ticker = context.ticker(INTERVAL);
    let mut debounce = Debounce::default();
    while ticker.tick().await.is_some() {
        for owner in uncommitted_owners(&context.cache, context.client.now() - CLOCK_TOLERANCE) {
            let removed = remove(&context.client, &owner).await;
            log_removal(&context, &owner, "its creation did not complete", removed);
        }
        for (_, owner) in debounce.confirmed(owners_without_jobs(&context.cache)) {
            let removed = remove_empty(&context.client, &owner).await;
            log_removal(&context, &owner, "all of its Jobs were deleted", removed);
        }
        for (snapshot, pods) in terminating_tasks(&context.cache) {
            if let Err(error) = finish(&context, &snapshot, &pods).await {
                context.warn(&format!("finish {}", snapshot.key.id), || {
                    tracing::warn!(task_id = %snapshot.key.id, %error, "failed to finish stopping a task; retrying");
                });
            }
        }
    }
}

/// The uncommitted owners whose deadline has passed at `now`. `group` decides about the tasks that follow the leader of
/// their group.
fn uncommitted_owners(cache: &Cache, now: Timestamp) -> Vec<TaskOwner> {
    let is_overdue = |owner: &&TaskOwner| {
        !owner.committed
            && !owner.terminating
            && !owner.follows_leader()
            && owner.deadline.is_some_and(|deadline| deadline < now)
    };
    cache.select(|entry| {
        let owners = entry.task.owners().iter().filter(is_overdue);
        owners.cloned().collect::<Vec<_>>()
    })
}

/// The committed owners without any Job.
fn owners_without_jobs(cache: &Cache) -> Vec<(Arc<TaskKey>, TaskOwner)> {
    cache.select(|entry| {
        let owner = entry.task.owner()?;
        let is_empty = owner.committed && !owner.terminating && entry.task.all_jobs().next().is_none();
        is_empty.then(|| (Arc::clone(entry.key), owner.clone()))
    })
}

/// The deleted tasks that finalizers still hold, with their running pods.
fn terminating_tasks(cache: &Cache) -> Vec<(Arc<TaskSnapshot>, Vec<Pod>)> {
    let runs = |pod: &&Pod| !matches!(pod.phase, Phase::Ended(_)) && !pod.terminating && !pod.is_ending;
    cache.select(|entry| {
        let task = Some(entry.task).filter(|task| task.is_terminating())?;
        let pods = task.pods.iter().filter(runs);
        Some((task.snapshot.clone()?, pods.cloned().collect()))
    })
}

/// Completes a stop that another server or a user began by deleting the owner.
async fn finish(context: &ControllerContext, snapshot: &TaskSnapshot, pods: &[Pod]) -> Result<(), Error> {
    if snapshot.is_disowned {
        return stop::delete(&context.client, &context.cache, snapshot).await;
    }
    stop::end_pods(&context.client, pods).await
}

/// Removes an owner without Jobs. The Job watch may lag behind the owner watch, and does not show Jobs that lost their
/// labels, so Kubernetes is asked first.
async fn remove_empty(client: &ApiClient, owner: &TaskOwner) -> Result<bool, Error> {
    let selector = format!("{}={}", labels::TASK_ID, owner.key.id);
    let jobs = client.list::<kubernetes::Job>("refresh the task", &selector).await?;
    if jobs.iter().any(|job| is_owned(job, owner)) || has_unlabeled_job(client, owner, &[]).await? {
        return Ok(false);
    }
    remove(client, owner).await
}

/// Removes the owner, and returns whether it did. The precondition on the version makes it lose against a concurrent
/// commit.
async fn remove(client: &ApiClient, owner: &TaskOwner) -> Result<bool, Error> {
    match client
        .delete::<ConfigMap>("remove the remains of the task", owner.this_version())
        .await
    {
        Ok(_) => Ok(true),
        Err(error) if error.is_conflict() => Ok(false),
        Err(error) => Err(error),
    }
}

fn log_removal(context: &ControllerContext, owner: &TaskOwner, why: &str, removed: Result<bool, Error>) {
    let task_id = &*owner.key.id;
    match removed {
        Ok(true) => tracing::warn!(task_id, why, "removed the remains of a task"),
        Ok(false) => {}
        Err(error) => context.warn(&format!("sweep {task_id}"), || {
            tracing::warn!(task_id, why, %error, "failed to remove the remains of a task; retrying");
        }),
    }
}
