//! Writing into the owner of a task what is about to be done, so that no other server does the opposite.

use serde_json::json;

use crate::cache::{Cache, GangTask, TaskOwner, Turn};
use crate::error::Error;
use crate::kubernetes::{Calls, ConfigMap, Target};
use crate::labels;

/// Moves a task on to `turn`; whether it stands there now. It does not when somebody has changed the owner since `task` was looked
/// at: then it must be looked at again. What has no owner has nobody to take turns with.
///
/// # Errors
/// Kubernetes was not reached, or refused.
pub async fn take_turn(calls: &Calls, cache: &Cache, task: &GangTask, turn: Turn) -> Result<bool, Error> {
    let Some(owner) = &task.owner else { return Ok(true) };
    if owner.turn == Some(turn) {
        return Ok(true);
    }
    let target = Target {
        name: &owner.name,
        uid: &owner.uid,
        version: Some(&owner.version),
    };
    let change = json!({"metadata": {"annotations": {labels::TURN: turn.to_string()}}});
    match calls
        .merge::<ConfigMap>("take the turn of a task", target, change)
        .await
    {
        Ok(Some(owner)) => {
            cache.made(TaskOwner::from_metadata(&owner.metadata).ok(), Vec::new());
            Ok(true)
        }
        Ok(None) => Ok(false),
        Err(error) if error.is_conflict() => Ok(false),
        Err(error) => Err(error),
    }
}
