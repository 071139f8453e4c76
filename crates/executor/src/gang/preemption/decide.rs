//! Decides which gang gives way when several hold part of what they need and wait for the rest.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::backoff::doubled;
use crate::cache::TaskKey;

/// How long a task must wait for resources before another one gives way. Schedulers and autoscalers need a chance
/// first.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// The pause before a task that gave way retries; it doubles each time.
const FIRST_PAUSE: Duration = Duration::from_secs(15);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// A gang whose start gate is closed because some nodes cannot be scheduled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WaitingGang {
    pub key: Arc<TaskKey>,
    pub created_at: Timestamp,
    /// How many of its nodes hold resources.
    pub held_nodes: usize,
    /// How long it has waited.
    pub waited: Duration,
}

/// A task that gave way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PreemptedGang {
    pub key: Arc<TaskKey>,
    pub created_at: Timestamp,
    pub at: Timestamp,
    /// How many times it has given way.
    pub times: u32,
}

/// The task that gives way now: the latest one that holds resources, if an earlier one waits as well.
pub(crate) fn gang_to_preempt(waiting: &[WaitingGang]) -> Option<&WaitingGang> {
    let patient = || waiting.iter().filter(|task| task.waited >= PATIENCE);
    let latest = patient()
        .filter(|task| task.held_nodes > 0)
        .max_by_key(|task| (task.created_at, &task.key))?;
    patient()
        .any(|task| (task.created_at, &task.key) < (latest.created_at, &latest.key))
        .then_some(latest)
}

/// The tasks that retry now, earliest first: their pause has elapsed, and no earlier task that holds resources waits
/// for more.
pub(crate) fn gangs_to_resume<'a>(
    suspended: &'a [PreemptedGang],
    waiting: &[WaitingGang],
    now: Timestamp,
) -> Vec<&'a PreemptedGang> {
    let is_due = |task: &&PreemptedGang| {
        let pause = doubled(FIRST_PAUSE, task.times.saturating_sub(1), LONGEST_PAUSE);
        task.at.checked_add(pause).is_ok_and(|due| due <= now)
    };
    // An earlier task that still holds nothing gained nothing from this one's absence.
    let is_first = |task: &&PreemptedGang| {
        waiting
            .iter()
            .all(|other| other.held_nodes == 0 || other.created_at >= task.created_at)
    };
    let mut due: Vec<&PreemptedGang> = suspended.iter().filter(is_due).filter(is_first).collect();
    due.sort_by_key(|task| (task.created_at, &task.key));
    due
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::{PATIENCE, PreemptedGang, WaitingGang, gang_to_preempt, gangs_to_resume};
    use crate::cache::{Job, TaskKey};

    fn key(id: &str) -> Arc<TaskKey> {
        Arc::new(TaskKey {
            id: id.into(),
            ..TaskKey::clone(&Job::example(0, 1).key)
        })
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn waiting(id: &str, second: i64, held_nodes: usize) -> WaitingGang {
        WaitingGang {
            key: key(id),
            created_at: at(second),
            held_nodes,
            waited: PATIENCE,
        }
    }

    #[test]
    fn of_two_that_hold_a_part_each_the_later_one_gives_way() {
        let both = [waiting("b", 2, 2), waiting("a", 1, 2)];
        assert_eq!(gang_to_preempt(&both).unwrap().key, key("b"));
        // A single waiting task waits for running tasks to finish.
        assert_eq!(gang_to_preempt(&both[..1]), None);
        // A task that holds nothing blocks nobody.
        assert_eq!(gang_to_preempt(&[waiting("a", 1, 2), waiting("b", 2, 0)]), None);
        let recent = WaitingGang {
            waited: Duration::ZERO,
            ..waiting("a", 1, 2)
        };
        assert_eq!(gang_to_preempt(&[recent, waiting("b", 2, 2)]), None);
    }

    #[test]
    fn it_tries_again_after_a_while_and_behind_the_earlier_one() {
        let suspended = [PreemptedGang {
            key: key("b"),
            created_at: at(2),
            at: at(100),
            times: 1,
        }];
        assert_eq!(gangs_to_resume(&suspended, &[], at(114)), Vec::<&PreemptedGang>::new());
        assert_eq!(gangs_to_resume(&suspended, &[], at(115)).len(), 1);
        assert_eq!(
            gangs_to_resume(&suspended, &[waiting("a", 1, 1)], at(115)),
            Vec::<&PreemptedGang>::new()
        );
        assert_eq!(gangs_to_resume(&suspended, &[waiting("c", 3, 1)], at(115)).len(), 1);
        let often = [PreemptedGang {
            times: 3,
            ..suspended[0].clone()
        }];
        assert_eq!(gangs_to_resume(&often, &[], at(159)).len(), 0);
        assert_eq!(gangs_to_resume(&often, &[], at(160)).len(), 1);
    }

    proptest! {
        /// The earliest waiting task never gives way, so at least one task makes progress.
        #[test]
        fn the_earliest_never_gives_way(tasks in prop::collection::vec((0_i64..5, 0_usize..3), 1..6)) {
            let tasks: Vec<WaitingGang> = tasks
                .into_iter()
                .enumerate()
                .map(|(index, (second, held_nodes))| waiting(&index.to_string(), second, held_nodes))
                .collect();
            let earliest = tasks.iter().min_by_key(|task| (task.created_at, &task.key)).unwrap();
            if let Some(task) = gang_to_preempt(&tasks) {
                prop_assert!(task.key != earliest.key && task.held_nodes > 0);
            }
        }
    }
}
