//! The tasks of a group, as the decision sees them.

use std::sync::Arc;

use task::TaskState;

use crate::cache::{Cache, GroupKey, GroupMember, Stage, Task, TaskKey};

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

impl MemberState {
    /// The state of a task that was started, and perhaps has ended for good.
    pub(super) fn of_outcome(outcome: Option<TaskState>) -> Self {
        match outcome {
            Some(TaskState::Completed) => Self::Completed,
            Some(_) => Self::Failed,
            None => Self::Active,
        }
    }
}

/// A task of a group.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub key: Arc<TaskKey>,
    pub group: GroupMember,
    pub state: MemberState,
    /// Whether it may be retried.
    pub recovers: bool,
}

/// The committed tasks of a group, by index, or none while some of its tasks may not be committed yet. Nothing starts
/// before: servers that know different tasks would start too many.
pub(super) fn members(cache: &Cache, group: &GroupKey) -> Vec<Member> {
    let members = cache.select_group(group, |key, task| {
        let owner = task.owner()?;
        let is_known = !owner.leads_group() || owner.group_complete;
        let member = Member {
            key: Arc::clone(key),
            group: GroupMember::clone(owner.group.as_ref()?),
            state: state(task),
            recovers: task.snapshot.as_ref().is_some_and(|snapshot| snapshot.recovers),
        };
        Some(is_known.then_some(member))
    });
    let Some(mut members) = members.into_iter().collect::<Option<Vec<Member>>>() else {
        return Vec::new();
    };
    members.sort_by_key(|member| member.group.index);
    members
}

/// The state according to the cache. Whether it has failed for good is read again from Kubernetes before anything
/// follows from it.
fn state(task: &Task) -> MemberState {
    let turn = task.owner().and_then(|owner| owner.turn);
    // The Job watch may lag, but the owner decides.
    if turn.is_some_and(|turn| turn.stage == Stage::Held) {
        return MemberState::Held;
    }
    let outcome = task.snapshot.as_ref().and_then(|snapshot| snapshot.outcome);
    MemberState::of_outcome(outcome.filter(|_| !task.is_terminating()))
}
