//! A task of a group, as the decision sees it.

use std::sync::Arc;

use task::TaskState;

use crate::cache::{Attempts, Cache, GroupKey, GroupMember, Job, Stage, Task, TaskKey};

/// How far a task of a group has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MemberState {
    /// It waits for its group.
    Held,
    /// It was started, and has not finished.
    Active,
    /// All nodes succeeded.
    Completed,
    /// It failed, or was canceled, and will not be retried.
    Failed,
}

/// A task of a group.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub key: Arc<TaskKey>,
    pub group: GroupMember,
    pub state: MemberState,
}

/// The visible tasks of a group, by index. Of several that claim the same index, the first one in Kubernetes counts.
pub(super) fn members(cache: &Cache, group: &GroupKey) -> Vec<Member> {
    let mut members = cache.select_group(group, |key, task| {
        let owner = task.owner()?;
        let member = Member {
            key: Arc::clone(key),
            group: GroupMember::clone(owner.group.as_ref()?),
            state: state(task)?,
        };
        Some((owner.creation_timestamp, member))
    });
    members.sort_by_key(|(created, member)| (member.group.index, *created));
    let mut members: Vec<Member> = members.into_iter().map(|(_, member)| member).collect();
    members.dedup_by_key(|member| member.group.index);
    let Some(first) = members.first().map(|first| first.group.clone()) else {
        return members;
    };
    members.retain(|member| member.group.is_same_group(&first));
    members
}

fn state(task: &Task) -> Option<MemberState> {
    let snapshot = task.snapshot.as_ref()?;
    let turn = task.owner().and_then(|owner| owner.turn);
    if turn.is_some_and(|turn| turn.stage == Stage::Held) {
        return Some(MemberState::Held);
    }
    let jobs = Attempts::of(&task.jobs);
    let has_job = |job: &Job| jobs.current.iter().any(|current| current.rank == job.rank);
    let is_cancelled = task.is_cancelled();
    // After a cancellation, the missing Jobs of an attempt are not created anymore.
    let is_complete = is_cancelled || jobs.previous().iter().all(has_job);
    let is_over = snapshot.state.is_final() && snapshot.restart.is_none() && is_complete && !task.is_terminating();
    Some(match snapshot.state {
        TaskState::Completed if is_over => MemberState::Completed,
        // The nodes of a failed task may still be ending.
        TaskState::Failed if is_over && jobs.current.iter().all(Job::is_over) => MemberState::Failed,
        _ => MemberState::Active,
    })
}
