//! Completes the submit of a group that a server left half done, or removes what it left.
//!
//! The first task of a group leads: once its owner is committed, the group exists, and all Jobs of all tasks have been
//! created. A server that dies right then has not committed the other owners; any server does.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::cache::{Cache, GroupMember, TaskKey, TaskOwner};
use crate::controller::ControllerContext;
use crate::error::Error;
use crate::kubernetes::{ApiClient, ConfigMap};
use crate::labels;

/// How often owners are checked. A check only reads the cache.
const INTERVAL: Duration = Duration::from_secs(2);

/// How long to spare an owner after its deadline, because the clocks of two servers may differ.
const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_secs(5);

const ACTION: &str = "complete the submit of a group";

/// Commits or removes uncommitted tasks of groups until shutdown.
pub(crate) async fn run(context: ControllerContext) {
    let mut ticker = context.ticker(INTERVAL);
    while ticker.tick().await.is_some() {
        let now = context.client.now() - CLOCK_TOLERANCE;
        for (owner, group) in undecided(&context.cache, now) {
            let task_id = &*owner.key.id;
            match settle(&context.client, &context.cache, &owner, &group, now).await {
                Ok(()) => {}
                Err(error) if error.is_conflict() => {}
                Err(error) => context.warn(&format!("settle {task_id}"), || {
                    tracing::warn!(task_id, %error, "failed to complete the submit of a group; retrying");
                }),
            }
        }
    }
}

/// The uncommitted owners whose leader is committed, or whose deadline has passed.
fn undecided(cache: &Cache, now: Timestamp) -> Vec<(TaskOwner, GroupMember)> {
    let waiting = cache.select(|entry| {
        let follows = |owner: &&TaskOwner| !owner.committed && !owner.terminating && owner.follows_leader();
        let owners = entry.task.owners().iter().filter(follows);
        owners.cloned().collect::<Vec<_>>()
    });
    let with_group = waiting.into_iter().filter_map(|owner| {
        let group = GroupMember::clone(owner.group.as_ref()?);
        Some((owner, group))
    });
    let is_undecided = |(owner, group): &(TaskOwner, GroupMember)| {
        let leader = TaskKey {
            id: group.id_of(0).as_str().into(),
            user: owner.key.user.clone(),
            submission: Some(group.token.clone()),
        };
        is_overdue(owner, now) || cache.snapshot(&leader).is_some()
    };
    with_group.filter(is_undecided).collect()
}

fn is_overdue(owner: &TaskOwner, now: Timestamp) -> bool {
    owner.deadline.is_some_and(|deadline| deadline < now)
}

/// Does with the task what its leader says.
async fn settle(
    client: &ApiClient,
    cache: &Cache,
    owner: &TaskOwner,
    group: &GroupMember,
    now: Timestamp,
) -> Result<(), Error> {
    let task_id = &*owner.key.id;
    let leader = client.get::<ConfigMap>(ACTION, &group.owner_name_of(0)).await?;
    let leader = leader.and_then(|leader| TaskOwner::from_metadata(&leader.metadata).ok());
    let leader = leader.filter(|leader| leader.group.as_ref().is_some_and(|led| led.is_same_group(group)));
    match leader {
        Some(leader) if leader.committed => {
            let commit = json!({"metadata": {"annotations": {labels::COMMITTED: labels::TRUE}}});
            let owner = client
                .merge_patch::<ConfigMap>(ACTION, owner.this_version(), commit)
                .await?;
            let owner = owner.and_then(|owner| TaskOwner::from_metadata(&owner.metadata).ok());
            cache.apply_created(owner, Vec::new());
            tracing::warn!(task_id, "completed the submit of a group");
        }
        // Its own deadline decides about the leader.
        Some(_) => {}
        None if is_overdue(owner, now) => {
            client.delete::<ConfigMap>(ACTION, owner.this_version()).await?;
            tracing::warn!(task_id, "removed the remains of a group whose submit did not complete");
        }
        None => {}
    }
    Ok(())
}
