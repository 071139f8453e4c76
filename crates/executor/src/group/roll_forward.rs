//! Completes the submit of a group that a server left half done, or removes what it left.
//!
//! The first task of a group leads: once its owner is committed, the group exists, and all Jobs of all tasks have been
//! created. A server that dies right then has not committed the other owners, and no task has started; any server goes
//! on.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::commit::{complete, find_leader};
use crate::cache::{Cache, GroupMember, TaskKey, TaskOwner};
use crate::controller::ControllerContext;
use crate::debounce::Debounce;
use crate::error::Error;
use crate::kubernetes::{ApiClient, ConfigMap, ResourceExt};
use crate::labels;

/// How often owners are checked. A check only reads the cache.
const INTERVAL: Duration = Duration::from_secs(2);

/// How long to spare an owner after its deadline, because the clocks of two servers may differ.
const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_secs(5);

/// Completes or removes groups until shutdown.
pub(crate) async fn run(context: ControllerContext) {
    let ControllerContext { client, cache, .. } = &context;
    let mut ticker = context.ticker(INTERVAL);
    let mut debounce = Debounce::default();
    while ticker.tick().await.is_some() {
        // The server that submits a group needs a moment.
        for (_, leader) in debounce.confirmed(incomplete_leaders(cache)) {
            let group_id = &leader.group_id;
            match complete_committed(client, cache, &leader).await {
                Ok(true) => tracing::warn!(%group_id, "completed the submit of a group"),
                Ok(false) => {}
                Err(error) => context.warn(&format!("complete {group_id}"), || {
                    tracing::warn!(%group_id, %error, "failed to complete the submit of a group; retrying");
                }),
            }
        }
        let now = client.now() - CLOCK_TOLERANCE;
        for (owner, group) in overdue_followers(cache, now) {
            let task_id = &*owner.key.id;
            match remove_without_leader(client, &owner, &group).await {
                Ok(()) => {}
                Err(error) if error.is_conflict() => {}
                Err(error) => context.warn(&format!("settle {task_id}"), || {
                    tracing::warn!(task_id, %error, "failed to remove the remains of a group; retrying");
                }),
            }
        }
    }
}

/// The leaders that are committed while other tasks of their group may not be.
fn incomplete_leaders(cache: &Cache) -> Vec<(Arc<TaskKey>, GroupMember)> {
    cache.select(|entry| {
        let owner = entry.task.owner()?;
        let is_incomplete = owner.leads_group() && owner.committed && !owner.group_complete && !owner.terminating;
        let group = owner.group.as_ref().filter(|_| is_incomplete)?;
        Some((Arc::clone(entry.key), GroupMember::clone(group)))
    })
}

/// Completes a group if its leader is committed. Otherwise it may still be undone.
async fn complete_committed(client: &ApiClient, cache: &Cache, group: &GroupMember) -> Result<bool, Error> {
    let leader = find_leader(client, group).await?;
    let is_committed = leader.is_some_and(|leader| leader.annotations().contains_key(labels::COMMITTED));
    if is_committed {
        complete(client, cache, group).await?;
    }
    Ok(is_committed)
}

/// The uncommitted owners of other tasks than the first whose deadline has passed at `now`.
fn overdue_followers(cache: &Cache, now: Timestamp) -> Vec<(TaskOwner, GroupMember)> {
    let is_overdue = |owner: &TaskOwner| owner.deadline.is_some_and(|deadline| deadline < now);
    cache.select(|entry| {
        let follows = |owner: &&TaskOwner| !owner.committed && !owner.terminating && owner.follows_leader();
        let owners = entry
            .task
            .owners()
            .iter()
            .filter(follows)
            .filter(|owner| is_overdue(owner));
        let with_group = |owner: &TaskOwner| Some((owner.clone(), GroupMember::clone(owner.group.as_ref()?)));
        owners.filter_map(with_group).collect::<Vec<_>>()
    })
}

/// Removes a task whose leader is gone. While the leader is there, its own deadline, or its commit, decides.
async fn remove_without_leader(client: &ApiClient, owner: &TaskOwner, group: &GroupMember) -> Result<(), Error> {
    const ACTION: &str = "remove the remains of a group";
    if find_leader(client, group).await?.is_some() {
        return Ok(());
    }
    client.delete::<ConfigMap>(ACTION, owner.this_version()).await?;
    tracing::warn!(
        task_id = &*owner.key.id,
        "removed the remains of a group whose submit did not complete"
    );
    Ok(())
}
