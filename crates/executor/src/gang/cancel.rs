//! Cancels tasks: ends their nodes, and keeps their status and logs.

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use serde_json::json;
use task::UserName;
use tokio::time::sleep;

use super::decide::end_all;
use super::patch::{ObjectPatch, patch_jobs};
use super::reconcile::apply;
use super::refetch::refetch;
use super::take_turn::{canceled_by, take_last_turn};
use super::task::ManagedTask;
use crate::cache::{Cache, EndCause, Phase, Pod, TaskKey, TaskSnapshot};
use crate::error::Error;
use crate::kubernetes::ApiClient;
use crate::labels;

/// How often a cancellation starts over because a server changed the task at the same time, and the pause before.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(100);

/// How many tasks are canceled concurrently.
const CONCURRENT_CANCELS: usize = 8;

/// The result of a cancellation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelOutcome {
    /// The nodes of the task are ending.
    Cancelled,
    /// The task had finished before.
    AlreadyFinished,
    /// There is no such task.
    NotFound,
}

/// Cancels a task. This is first recorded, in the owner of the task or else in its Job, so that any server completes it
/// and none retries the task, even if this process dies now. `by` is the user who cancels it, if it is one.
///
/// # Errors
/// [`Error::CancelConflict`], or a rejection by Kubernetes.
pub(crate) async fn cancel(
    client: &ApiClient,
    cache: &Cache,
    key: &Arc<TaskKey>,
    by: Option<&UserName>,
) -> Result<CancelOutcome, Error> {
    const ACTION: &str = "cancel the task";
    for _ in 0..TRIES {
        let Some(known) = cache.find(key, ManagedTask::any_from_cache).flatten() else {
            return Ok(CancelOutcome::NotFound);
        };
        let Some(task) = refetch(client, key, &known).await? else {
            return Ok(CancelOutcome::NotFound);
        };
        if has_finished(&task) {
            return Ok(CancelOutcome::AlreadyFinished);
        }
        let is_recorded = if task.owner.is_some() {
            take_last_turn(client, cache, &task, by).await?
        } else {
            let mut annotations = canceled_by(by.filter(|_| !task.is_cancelled()));
            annotations.insert(labels::CANCELLED.to_owned(), labels::TRUE.into());
            let record = json!({"metadata": {"annotations": annotations}});
            let jobs = task.nodes.iter().map(|(job, _)| job.object_ref());
            let changes = jobs.map(|job| ObjectPatch::of(job, record.clone())).collect();
            patch_jobs(client, cache, ACTION, changes).await?;
            true
        };
        if !is_recorded {
            sleep(PAUSE).await;
            continue;
        }
        for action in end_all(&task, EndCause::Cancelled) {
            apply(client, cache, action).await?;
        }
        return Ok(CancelOutcome::Cancelled);
    }
    Err(Error::CancelConflict)
}

/// Cancels many tasks and returns their number. A failure does not prevent the others from being canceled.
pub(crate) async fn cancel_all(
    client: &ApiClient,
    cache: &Cache,
    tasks: Vec<(String, Arc<TaskSnapshot>)>,
    by: &UserName,
) -> Result<usize, Error> {
    let results: Vec<Result<CancelOutcome, String>> = stream::iter(tasks)
        .map(|(id, snapshot)| async move {
            let outcome = cancel(client, cache, &snapshot.key, Some(by)).await;
            outcome.map_err(|error| format!("task `{id}`: {error}"))
        })
        .buffer_unordered(CONCURRENT_CANCELS)
        .collect()
        .await;
    let is_cancelled = |result: &&Result<_, _>| matches!(result, Ok(CancelOutcome::Cancelled));
    let cancelled = results.iter().filter(is_cancelled).count();
    let failures: Vec<String> = results.into_iter().filter_map(Result::err).collect();
    if failures.is_empty() {
        return Ok(cancelled);
    }
    Err(Error::CancelAll { cancelled, failures })
}

/// Whether every node has ended and the task will not be retried.
fn has_finished(task: &ManagedTask) -> bool {
    // A pod that is being deleted may belong to a task that will run again.
    let has_ended = |pod: &Pod| matches!(pod.phase, Phase::Ended(_)) && !pod.terminating;
    let is_complete = task.nodes.len() >= usize::try_from(task.num_nodes).unwrap_or(usize::MAX);
    // The Jobs of an attempt that its owner has recorded may still be created.
    let is_last = task.nodes.iter().all(|(job, _)| job.attempt >= task.turn().attempt);
    let mut nodes = task.nodes.iter();
    is_complete
        && is_last
        && task.restart.is_none()
        && nodes.all(|(job, pod)| {
            // A queue that suspends a Job runs it again.
            job.is_over() || !job.suspended && pod.as_ref().is_some_and(has_ended)
        })
}
