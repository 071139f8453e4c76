//! Decides which tasks of a group start next, and which never will, without side effects.

use std::num::NonZeroU32;
use std::sync::Arc;

use task::Execution;

use super::member::{Member, MemberState};
use crate::cache::TaskKey;

/// A step of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Start a task.
    Start(Arc<TaskKey>),
    /// Cancel tasks that never start, because one before them failed.
    Cancel(Vec<Arc<TaskKey>>),
    /// Cancel these tasks if the task with this index, which must run before them, is gone.
    CancelIfGone { index: u32, tasks: Vec<Arc<TaskKey>> },
}

/// The steps that are possible now. `members` are the visible tasks of one group, by index.
pub(super) fn decide(members: &[Member]) -> Vec<Step> {
    match members.first().map(|first| first.group.execution) {
        None => Vec::new(),
        Some(Execution::Serial) => next_in_order(members).into_iter().collect(),
        Some(Execution::Parallel { max_parallel }) => next_in_parallel(members, max_parallel),
    }
}

/// The step for the first held task: it depends on the task before it alone.
fn next_in_order(members: &[Member]) -> Option<Step> {
    let first = members.iter().position(|member| member.state == MemberState::Held)?;
    let member = &members[first];
    let Some(index) = member.group.index.checked_sub(1) else {
        return Some(Step::Start(Arc::clone(&member.key)));
    };
    let waiting = || {
        let held = members[first..]
            .iter()
            .filter(|member| member.state == MemberState::Held);
        held.map(|member| Arc::clone(&member.key)).collect()
    };
    let before = first.checked_sub(1).map(|before| &members[before]);
    match before
        .filter(|before| before.group.index == index)
        .map(|before| before.state)
    {
        Some(MemberState::Completed) => Some(Step::Start(Arc::clone(&member.key))),
        Some(MemberState::Active | MemberState::Held) => None,
        Some(MemberState::Failed) => Some(Step::Cancel(waiting())),
        None => Some(Step::CancelIfGone {
            index,
            tasks: waiting(),
        }),
    }
}

/// The first held tasks, up to the limit. Tasks start in the order of their index, and a start is recorded in the task
/// itself. So servers that see different states of the group try to start the same task, and one that lags sees too
/// many active tasks rather than too few: together, they never exceed the limit.
fn next_in_parallel(members: &[Member], max_parallel: Option<NonZeroU32>) -> Vec<Step> {
    let is = |state: MemberState| move |member: &&Member| member.state == state;
    let active = members.iter().filter(is(MemberState::Active)).count();
    let most = max_parallel.map_or(usize::MAX, |most| usize::try_from(most.get()).unwrap_or(usize::MAX));
    let held = members.iter().filter(is(MemberState::Held));
    held.take(most.saturating_sub(active))
        .map(|member| Step::Start(Arc::clone(&member.key)))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::sync::Arc;

    use proptest::prelude::*;
    use task::Execution;

    use super::super::member::{Member, MemberState};
    use super::{Step, decide};
    use crate::cache::{GroupMember, Job, TaskKey};

    fn key(index: u32) -> Arc<TaskKey> {
        let example = Job::example(0, 1).key;
        Arc::new(TaskKey {
            id: format!("task{index}").into(),
            ..TaskKey::clone(&example)
        })
    }

    /// The members of a group from one letter each: held, active, completed, failed, or `-` for one that is not there.
    fn members(states: &str, execution: Execution) -> Vec<Member> {
        let size = u32::try_from(states.len()).unwrap();
        let member = |(index, letter): (u32, char)| {
            let state = match letter {
                'h' => MemberState::Held,
                'a' => MemberState::Active,
                'c' => MemberState::Completed,
                'f' => MemberState::Failed,
                _ => return None,
            };
            let group = GroupMember::example(index, size, execution);
            Some(Member {
                key: key(index),
                group,
                state,
                recovers: false,
            })
        };
        (0..).zip(states.chars()).filter_map(member).collect()
    }

    fn serial(states: &str) -> Vec<Step> {
        decide(&members(states, Execution::Serial))
    }

    fn parallel(states: &str, most: u32) -> Vec<Step> {
        let max_parallel = NonZeroU32::new(most);
        decide(&members(states, Execution::Parallel { max_parallel }))
    }

    fn start(index: u32) -> Step {
        Step::Start(key(index))
    }

    #[test]
    fn a_pipeline_starts_each_task_after_the_one_before_has_completed() {
        assert_eq!(serial("hhh"), [start(0)]);
        assert_eq!(serial("ahh"), []);
        assert_eq!(serial("chh"), [start(1)]);
        assert_eq!(serial("cah"), []);
        assert_eq!(serial("cch"), [start(2)]);
        assert_eq!(serial("ccc"), []);
        // Earlier tasks may have been deleted since.
        assert_eq!(serial("-ch"), [start(2)]);
        assert_eq!(serial("-ah"), []);
    }

    #[test]
    fn nothing_starts_after_a_failure() {
        assert_eq!(serial("cfhh"), [Step::Cancel(vec![key(2), key(3)])]);
        assert_eq!(serial("cff"), []);
        // The user canceled a task in the middle: those before it still run.
        assert_eq!(serial("ahfh"), []);
        assert_eq!(serial("chfh"), [start(1)]);
        assert_eq!(serial("ccfh"), [Step::Cancel(vec![key(3)])]);
    }

    #[test]
    fn a_task_whose_predecessor_is_gone_is_canceled() {
        let tasks = vec![key(1), key(2)];
        assert_eq!(serial("-hh"), [Step::CancelIfGone { index: 0, tasks }]);
        let tasks = vec![key(3)];
        assert_eq!(serial("ca-h"), [Step::CancelIfGone { index: 2, tasks }]);
    }

    #[test]
    fn a_sweep_runs_as_many_tasks_as_it_may() {
        assert_eq!(parallel("hhh", 0), [start(0), start(1), start(2)]);
        assert_eq!(parallel("hhh", 2), [start(0), start(1)]);
        assert_eq!(parallel("ahh", 2), [start(1)]);
        assert_eq!(parallel("aah", 2), []);
        assert_eq!(parallel("fahh", 2), [start(2)]);
        assert_eq!(parallel("-aahh", 3), [start(3)]);
    }

    proptest! {
        /// Whatever the tasks do, and whatever a lagging server sees of them, the limit holds.
        #[test]
        fn two_servers_together_never_exceed_the_limit(
            size in 1_usize..8, most in 1_u32..4, turns in prop::collection::vec((0_usize..2, 0_usize..3, 0_usize..8), 1..60),
        ) {
            let mut truth = vec!['h'; size];
            let mut seen = [truth.clone(), truth.clone()];
            for (server, what, index) in turns {
                match what {
                    // The server catches up.
                    0 => seen[server].clone_from(&truth),
                    // A task finishes.
                    1 => if let Some(state) = truth.get_mut(index).filter(|state| **state == 'a') { *state = 'c' },
                    _ => {
                        let states: String = seen[server].iter().collect();
                        for step in parallel(&states, most) {
                            let started = (0..size).find(|index| step == start(u32::try_from(*index).unwrap())).unwrap();
                            // The version of the owner decides whether the start is recorded.
                            if truth[started] == 'h' {
                                truth[started] = 'a';
                                seen[server][started] = 'a';
                            } else {
                                seen[server].clone_from(&truth);
                                break;
                            }
                        }
                    }
                }
                let active = truth.iter().filter(|state| **state == 'a').count();
                prop_assert!(active <= most as usize, "{truth:?}");
            }
        }
    }
}
