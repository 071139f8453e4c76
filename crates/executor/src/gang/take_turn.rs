//! Records the next step in the owner of a task, so that no other server takes a conflicting one.

use serde_json::{Map, Value, json};
use task::UserName;

use super::task::ManagedTask;
use crate::cache::{Cache, Stage, TaskOwner, Turn};
use crate::error::Error;
use crate::kubernetes::{ApiClient, ConfigMap};
use crate::labels;

/// Advances the task to `turn`, and returns whether it is there now. If somebody changed the owner since `task` was
/// read, nothing is written, and the task must be read again. A task without an owner needs no turns.
pub(crate) async fn take_turn(
    client: &ApiClient,
    cache: &Cache,
    task: &ManagedTask,
    turn: Turn,
) -> Result<bool, Error> {
    take_turn_with(client, cache, task, turn, Map::new()).await
}

/// Cancels the task for a user, if it is one who does, in the same way. Its record names the first one.
pub(super) async fn take_last_turn(
    client: &ApiClient,
    cache: &Cache,
    task: &ManagedTask,
    by: Option<&UserName>,
) -> Result<bool, Error> {
    let turn = task.turn().at(Stage::Cancelled);
    take_turn_with(client, cache, task, turn, canceled_by(by)).await
}

/// The annotation that says who cancels a task.
pub(super) fn canceled_by(user: Option<&UserName>) -> Map<String, Value> {
    let annotation = user.map(|user| (labels::CANCELED_BY.to_owned(), Value::from(user.as_str())));
    annotation.into_iter().collect()
}

async fn take_turn_with(
    client: &ApiClient,
    cache: &Cache,
    task: &ManagedTask,
    turn: Turn,
    mut annotations: Map<String, Value>,
) -> Result<bool, Error> {
    let Some(owner) = &task.owner else { return Ok(true) };
    if owner.turn == Some(turn) {
        return Ok(true);
    }
    // A canceled task stays canceled.
    if owner.turn.is_some_and(|turn| turn.stage == Stage::Cancelled) {
        return Ok(false);
    }
    annotations.insert(labels::TURN.to_owned(), turn.to_string().into());
    let change = json!({"metadata": {"annotations": annotations}});
    match client
        .merge_patch::<ConfigMap>("update the state of the task", owner.this_version(), change)
        .await
    {
        Ok(Some(owner)) => {
            cache.apply_created(TaskOwner::from_metadata(&owner.metadata).ok(), Vec::new());
            Ok(true)
        }
        Ok(None) => Ok(false),
        Err(error) if error.is_conflict() => Ok(false),
        Err(error) => Err(error),
    }
}
