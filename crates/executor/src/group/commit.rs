//! Commits the tasks of a group whose leader is committed.
//!
//! Once all are, the owner of the leader says so. No task starts before: servers that know different tasks of a group
//! could start too many.

use futures::{StreamExt, TryStreamExt, stream};
use serde_json::json;

use crate::cache::{Cache, GroupMember, Job, TaskOwner};
use crate::error::Error;
use crate::kubernetes::{self, ApiClient, ConfigMap, ObjectRef, ResourceExt};
use crate::labels;
use crate::submit;
use crate::tokens;

/// How many tasks are committed concurrently.
const CONCURRENT_COMMITS: usize = 16;

const ACTION: &str = "commit the tasks of a group";

/// A task whose objects have been created.
pub(super) struct CreatedTask {
    pub owner: TaskOwner,
    pub jobs: Vec<Job>,
    pub warnings: Vec<String>,
}

/// Commits the tasks that are not committed, and adds all of them to the cache, so that the caller can immediately query
/// them on this server.
pub(super) async fn commit_all(
    client: &ApiClient,
    cache: &Cache,
    group: &GroupMember,
    tasks: Vec<CreatedTask>,
) -> Result<(), Error> {
    let commits = tasks.into_iter().map(|task| commit(client, cache, task));
    let commits: Vec<_> = commits.collect();
    let commits = stream::iter(commits).buffer_unordered(CONCURRENT_COMMITS);
    commits.try_for_each(|()| async { Ok(()) }).await?;
    mark_complete(client, cache, group).await
}

/// Does the same for a group that another try, perhaps on another server, has created.
pub(super) async fn complete(client: &ApiClient, cache: &Cache, group: &GroupMember) -> Result<(), Error> {
    let selector = format!("{}={}", labels::GROUP_ID, group.group_id);
    let (owners, jobs) = tokio::try_join!(
        client.list::<ConfigMap>(ACTION, &selector),
        client.list::<kubernetes::Job>(ACTION, &selector),
    )?;
    let jobs: Vec<Job> = jobs
        .into_iter()
        .filter_map(|job| Job::from_resource(job).ok())
        .collect();
    let owners = owners
        .iter()
        .filter_map(|owner| TaskOwner::from_metadata(&owner.metadata).ok());
    // Somebody may have copied an owner, but not under its name.
    let is_member = |owner: &TaskOwner| {
        let of = owner.group.as_ref().filter(|of| of.is_same_group(group));
        of.is_some_and(|of| owner.name == group.owner_name_of(of.index))
    };
    let task = |owner: TaskOwner| CreatedTask {
        jobs: jobs.iter().filter(|job| owner.owns(job)).cloned().collect(),
        warnings: Vec::new(),
        owner,
    };
    let tasks: Vec<CreatedTask> = owners.filter(is_member).map(task).collect();
    let is_listed = |index: &u32| {
        let mut listed = tasks.iter().filter_map(|task| task.owner.group.as_ref());
        listed.any(|group| group.index == *index)
    };
    let unlisted = (0..group.size).filter(|index| !is_listed(index));
    let commits: Vec<_> = unlisted.map(|index| commit_unlabeled(client, group, index)).collect();
    let commits = stream::iter(commits).buffer_unordered(CONCURRENT_COMMITS);
    commits.try_for_each(|()| async { Ok(()) }).await?;
    let present = tasks.into_iter().filter(|task| !task.owner.terminating);
    commit_all(client, cache, group, present.collect()).await
}

/// Commits a task that no list shows: it was stopped, or somebody removed labels of its owner. It exists for the user who asked
/// for it, and is seen again once the labels are back.
async fn commit_unlabeled(client: &ApiClient, group: &GroupMember, index: u32) -> Result<(), Error> {
    let Some(owner) = client.get::<ConfigMap>(ACTION, &group.owner_name_of(index)).await? else {
        return Ok(());
    };
    let annotations = owner.annotations();
    let is_ours = tokens::submission(annotations) == Some(group.token_of(index).as_str());
    if is_ours && !annotations.contains_key(labels::COMMITTED) {
        let target = ObjectRef::new(&owner.name_any(), &owner.uid().unwrap_or_default());
        submit::commit(client, &target).await?;
    }
    Ok(())
}

async fn commit(client: &ApiClient, cache: &Cache, task: CreatedTask) -> Result<(), Error> {
    let CreatedTask { owner, jobs, .. } = task;
    let owner = if owner.committed || owner.leads_group() {
        // The caller has committed the leader.
        Some(TaskOwner {
            committed: true,
            ..owner
        })
    } else {
        let committed = submit::commit(client, &owner.object_ref()).await?;
        committed.and_then(|owner| TaskOwner::from_metadata(&owner.metadata).ok())
    };
    if owner.is_some() {
        cache.apply_created(owner, jobs);
    }
    Ok(())
}

/// The owner of the leader as it is in Kubernetes. What the cache takes for it may be a copy that somebody has made.
pub(super) async fn find_leader(client: &ApiClient, group: &GroupMember) -> Result<Option<ConfigMap>, Error> {
    let found = client
        .get::<ConfigMap>("look up the leader of a group", &group.owner_name_of(0))
        .await?;
    Ok(found.filter(|leader| group.is_led_by(leader.annotations())))
}

/// Records in the owner of the leader that all tasks are committed. A leader that was stopped meanwhile records nothing
/// anymore.
async fn mark_complete(client: &ApiClient, cache: &Cache, group: &GroupMember) -> Result<(), Error> {
    let Some(leader) = find_leader(client, group).await? else {
        return Ok(());
    };
    let change = json!({"metadata": {"annotations": {labels::GROUP_COMPLETE: labels::TRUE}}});
    let target = ObjectRef::new(&leader.name_any(), &leader.uid().unwrap_or_default());
    let leader = client
        .merge_patch::<ConfigMap>(ACTION, target.any_version(), change)
        .await?;
    let leader = leader.and_then(|leader| TaskOwner::from_metadata(&leader.metadata).ok());
    cache.apply_created(leader, Vec::new());
    Ok(())
}
