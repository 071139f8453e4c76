//! Stops tasks by deleting their Kubernetes objects.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use serde_json::json;

use crate::cache::{self, Cache, View};
use crate::error::Error;
use crate::kubernetes::{Calls, ConfigMap, Deleted, Job, Pod, Target};

/// How many Jobs of one task are deleted concurrently.
const CONCURRENT_DELETES: usize = 16;

/// How many tasks are stopped concurrently; each may delete several Jobs.
const CONCURRENT_STOPS: usize = 8;

/// Deletes the objects of one task. The owner is deleted first, so that Kubernetes removes the rest even if this
/// process dies now. If finalizers hold a Job, its pods are ended, and the task stays visible as `Terminating`.
pub(crate) async fn stop(calls: &Calls, cache: &Cache, view: &View) -> Result<(), Error> {
    const ACTION: &str = "delete the Jobs of the task";
    let mut gone = Vec::new();
    if let Some((name, uid)) = &view.owned_by {
        let version = None;
        let target = Target { name, uid, version };
        if let Deleted::Gone = calls.delete::<ConfigMap>(ACTION, target).await? {
            gone.push(uid.clone());
        }
    }
    let deletes = stream::iter(view.jobs.clone()).map(|(name, uid)| async move {
        let target = Target {
            name: &name,
            uid: &uid,
            version: None,
        };
        let deleted = calls.delete::<Job>(ACTION, target).await?;
        Ok::<_, Error>((uid, deleted))
    });
    let mut deletes = deletes.buffer_unordered(CONCURRENT_DELETES);
    let mut held = Vec::new();
    while let Some((uid, deleted)) = deletes.try_next().await? {
        match deleted {
            Deleted::Gone => gone.push(uid),
            Deleted::Held(job) => held.extend(cache::Job::from_resource(job)),
        }
    }
    let is_held = !held.is_empty();
    cache.deleted(&gone, held);
    if is_held {
        end_pods(calls, &cache.running_pods(&view.key)).await?;
    }
    Ok(())
}

/// Stops many tasks and returns their number. A failure does not prevent the others from being stopped.
pub(crate) async fn stop_all(calls: &Calls, cache: &Cache, tasks: Vec<(String, Arc<View>)>) -> Result<usize, Error> {
    let results: Vec<Result<(), String>> = stream::iter(tasks)
        .map(|(id, view)| async move {
            stop(calls, cache, &view)
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
pub(crate) async fn end_pods(calls: &Calls, pods: &[cache::Pod]) -> Result<(), Error> {
    let end = |pod: &cache::Pod| {
        let (name, uid) = (pod.name.clone(), pod.uid.clone());
        async move {
            let target = Target {
                name: &name,
                uid: &uid,
                version: None,
            };
            let change = json!({"spec": {"activeDeadlineSeconds": 1}});
            calls
                .merge::<Pod>("terminate a pod of a stopped task", target, change)
                .await
        }
    };
    let ends: Vec<_> = pods.iter().map(end).collect();
    stream::iter(ends)
        .buffer_unordered(CONCURRENT_DELETES)
        .try_for_each(|_| async { Ok(()) })
        .await
}
