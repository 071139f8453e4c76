//! Stopping tasks: deleting their Kubernetes objects.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};

use crate::cache::{Cache, View};
use crate::error::Error;
use crate::kubernetes::{Calls, ConfigMap, Job};

/// How many Jobs of one task are deleted at once.
const CONCURRENT_DELETES: usize = 16;

/// How many tasks are stopped at once; each may delete several Jobs.
const CONCURRENT_STOPS: usize = 8;

/// Deletes the objects of one task. The owner goes first: from that moment the rest goes even if this process does not
/// live to see it.
pub(crate) async fn stop(calls: &Calls, cache: &Cache, id: &str, view: &View) -> Result<(), Error> {
    const ACTION: &str = "delete the Jobs of the task";
    if let Some((name, uid)) = &view.owned_by {
        calls.delete::<ConfigMap>(ACTION, name, uid, None).await?;
    }
    stream::iter(view.jobs.clone())
        .map(|(name, uid)| async move { calls.delete::<Job>(ACTION, &name, &uid, None).await })
        .buffer_unordered(CONCURRENT_DELETES)
        .try_collect::<()>()
        .await?;
    cache.stopped(id);
    Ok(())
}

/// Stops many tasks; one that cannot be stopped does not keep the others running. Returns how many were stopped.
pub(crate) async fn stop_all(calls: &Calls, cache: &Cache, tasks: Vec<(String, Arc<View>)>) -> Result<usize, Error> {
    let results: Vec<Result<(), String>> = stream::iter(tasks)
        .map(|(id, view)| async move {
            stop(calls, cache, &id, &view)
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
