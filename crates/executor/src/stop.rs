//! Stops tasks by deleting their Kubernetes objects.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use serde_json::json;
use task::UserName;

use crate::archiving::Archiver;
use crate::cache::{self, Cache, TaskSnapshot};
use crate::error::Error;
use crate::kubernetes::{ApiClient, ConfigMap, DeleteOutcome, Job, Pod};
use crate::labels;

/// How many Jobs of one task are deleted concurrently.
const CONCURRENT_DELETES: usize = 16;

/// How many tasks are stopped concurrently; each may delete several Jobs.
const CONCURRENT_STOPS: usize = 8;

/// What a stop needs besides the task.
#[derive(Clone)]
pub(crate) struct StopContext {
    pub client: ApiClient,
    pub cache: Arc<Cache>,
    pub archiver: Option<Arc<Archiver>>,
}

/// Stops a task for a user: prepares its record, and deletes it.
pub(crate) async fn stop(context: &StopContext, snapshot: &Arc<TaskSnapshot>, user: &UserName) -> Result<(), Error> {
    let StopContext {
        client,
        cache,
        archiver,
    } = context;
    if let Some(archiver) = archiver {
        if !snapshot.state.is_final()
            && let Err(error) = record_user(client, cache, snapshot, user).await
        {
            tracing::warn!(task_id = &*snapshot.key.id, %error, "cannot record who stopped a task");
        }
        archiver.before_delete(snapshot).await;
    }
    delete(client, cache, snapshot).await
}

/// Notes on the object that stands for the task who stops it, so that every server that sees it go knows.
async fn record_user(client: &ApiClient, cache: &Cache, snapshot: &TaskSnapshot, user: &UserName) -> Result<(), Error> {
    const ACTION: &str = "record who stops the task";
    let change = json!({"metadata": {"annotations": {labels::STOPPED_BY: user.as_str()}}});
    if let Some(owner) = &snapshot.owned_by {
        let patched = client
            .merge_patch::<ConfigMap>(ACTION, owner.any_version(), change)
            .await?;
        let owner = patched.and_then(|owner| cache::TaskOwner::from_metadata(&owner.metadata).ok());
        cache.apply_created(owner, Vec::new());
    } else if let Some(job) = snapshot.jobs.first() {
        let patched = client.merge_patch::<Job>(ACTION, job.any_version(), change).await?;
        let job = patched.and_then(|job| cache::Job::from_resource(job).ok());
        cache.apply_patched(job.into_iter().collect(), Vec::new());
    }
    Ok(())
}

/// Deletes the objects of one task. The owner is deleted first, so that Kubernetes removes the rest even if this
/// process dies now. If finalizers hold a Job, its pods are ended, and the task stays visible as `Terminating`.
pub(crate) async fn delete(client: &ApiClient, cache: &Cache, snapshot: &TaskSnapshot) -> Result<(), Error> {
    const ACTION: &str = "delete the Jobs of the task";
    let mut gone = Vec::new();
    if let Some(owner) = &snapshot.owned_by
        && let DeleteOutcome::Deleted = client.delete::<ConfigMap>(ACTION, owner.any_version()).await?
    {
        gone.push(owner.uid.clone());
    }
    let deletes = stream::iter(snapshot.jobs.clone()).map(|job| async move {
        let deleted = client.delete::<Job>(ACTION, job.any_version()).await?;
        Ok::<_, Error>((job.uid, deleted))
    });
    let mut deletes = deletes.buffer_unordered(CONCURRENT_DELETES);
    let mut held = Vec::new();
    while let Some((uid, deleted)) = deletes.try_next().await? {
        match deleted {
            DeleteOutcome::Deleted => gone.push(uid),
            DeleteOutcome::Finalizing(job) => held.extend(cache::Job::from_resource(job)),
        }
    }
    let is_held = !held.is_empty();
    cache.apply_deleted(&gone, held);
    if is_held {
        end_pods(client, &cache.running_pods(&snapshot.key)).await?;
    }
    Ok(())
}

/// Stops many tasks and returns their number. A failure does not prevent the others from being stopped.
pub(crate) async fn stop_all(
    context: &StopContext,
    tasks: Vec<(String, Arc<TaskSnapshot>)>,
    user: &UserName,
) -> Result<usize, Error> {
    let results: Vec<Result<(), String>> = stream::iter(tasks)
        .map(|(id, snapshot)| async move {
            stop(context, &snapshot, user)
                .await
                .map_err(|error| format!("task `{id}`: {error}"))
        })
        .buffer_unordered(CONCURRENT_STOPS)
        .collect()
        .await;
    let stopped = results.iter().filter(|result| result.is_ok()).count();
    let failures: Vec<String> = results.into_iter().filter_map(Result::err).collect();
    if failures.is_empty() {
        return Ok(stopped);
    }
    Err(Error::StopAll { stopped, failures })
}

/// Ends the pods of a deleted Job that is held by finalizers: Kubernetes would delete them only after the Job. The
/// kubelet sends SIGTERM to a pod that exceeds its deadline.
pub(crate) async fn end_pods(client: &ApiClient, pods: &[cache::Pod]) -> Result<(), Error> {
    let end = |pod: &cache::Pod| {
        let pod = pod.object_ref();
        async move {
            let change = json!({"spec": {"activeDeadlineSeconds": 1}});
            client
                .merge_patch::<Pod>("terminate a pod of a stopped task", pod.any_version(), change)
                .await
        }
    };
    let ends: Vec<_> = pods.iter().map(end).collect();
    stream::iter(ends)
        .buffer_unordered(CONCURRENT_DELETES)
        .try_for_each(|_| async { Ok(()) })
        .await
}
