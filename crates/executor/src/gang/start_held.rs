//! Starts a task that waited for its group.

use std::sync::Arc;

use super::refetch::refetch;
use super::take_turn::take_turn;
use super::task::ManagedTask;
use crate::cache::{Cache, Stage, TaskKey};
use crate::error::Error;
use crate::kubernetes::ApiClient;

/// The result of a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StartOutcome {
    /// The start is recorded, and any server starts the Jobs.
    Started,
    /// Another server changed the task at the same time, or the task is gone.
    Changed,
}

/// Records in the owner of a held task that it may start. The reconciler then starts its Jobs.
pub(crate) async fn start_held(client: &ApiClient, cache: &Cache, key: &Arc<TaskKey>) -> Result<StartOutcome, Error> {
    let Some(task) = cache.find(key, ManagedTask::any_from_cache).flatten() else {
        return Ok(StartOutcome::Changed);
    };
    let turn = task.turn();
    if turn.stage == Stage::Held && take_turn(client, cache, &task, turn.at(Stage::Waiting)).await? {
        return Ok(StartOutcome::Started);
    }
    // The owner watch may lag; a fresh read shows what the other server wrote.
    if let Some(owner) = refetch(client, key, &task).await?.and_then(|task| task.owner) {
        cache.apply_created(Some(owner), Vec::new());
    }
    Ok(StartOutcome::Changed)
}
