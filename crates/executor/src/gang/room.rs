//! Decides which gang gives way when several hold part of what they need and wait for the rest.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::cache::TaskKey;

/// How long a task must wait for resources before another one gives way. Schedulers and autoscalers need a chance
/// first.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// The pause before a task that gave way retries; it doubles each time.
const FIRST_BACK_OFF: Duration = Duration::from_secs(15);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(300);

/// A gang whose start gate is closed because some nodes cannot be scheduled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    pub key: Arc<TaskKey>,
    pub created_at: Timestamp,
    /// How many of its nodes hold resources.
    pub held: usize,
    /// How long it has waited.
    pub since: Duration,
}

/// A task that gave way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspended {
    pub key: Arc<TaskKey>,
    pub created_at: Timestamp,
    pub at: Timestamp,
    /// How many times it has given way.
    pub times: u32,
}

/// The task that gives way now: the latest one that holds resources, if an earlier one waits as well.
pub fn gives_way(waiting: &[Waiting]) -> Option<&Waiting> {
    let patient = || waiting.iter().filter(|task| task.since >= PATIENCE);
    let latest = patient()
        .filter(|task| task.held > 0)
        .max_by_key(|task| (task.created_at, &task.key))?;
    patient()
        .any(|task| (task.created_at, &task.key) < (latest.created_at, &latest.key))
        .then_some(latest)
}

/// The tasks that retry now, earliest first: their pause has elapsed, and no earlier task that holds resources waits
/// for more.
pub fn try_again<'a>(suspended: &'a [Suspended], waiting: &[Waiting], now: Timestamp) -> Vec<&'a Suspended> {
    let is_due = |task: &&Suspended| {
        let pause = FIRST_BACK_OFF
            .saturating_mul(1 << (task.times.clamp(1, 10) - 1))
            .min(LONGEST_BACK_OFF);
        task.at.checked_add(pause).is_ok_and(|due| due <= now)
    };
    // An earlier task that still holds nothing gained nothing from this one's absence.
    let is_first = |task: &&Suspended| {
        waiting
            .iter()
            .all(|other| other.held == 0 || other.created_at >= task.created_at)
    };
    let mut due: Vec<&Suspended> = suspended.iter().filter(is_due).filter(is_first).collect();
    due.sort_by_key(|task| (task.created_at, &task.key));
    due
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::{PATIENCE, Suspended, Waiting, gives_way, try_again};
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

    fn waiting(id: &str, second: i64, held: usize) -> Waiting {
        Waiting {
            key: key(id),
            created_at: at(second),
            held,
            since: PATIENCE,
        }
    }

    #[test]
    fn of_two_that_hold_a_part_each_the_later_one_gives_way() {
        let both = [waiting("b", 2, 2), waiting("a", 1, 2)];
        assert_eq!(gives_way(&both).unwrap().key, key("b"));
        // A single waiting task waits for running tasks to finish.
        assert_eq!(gives_way(&both[..1]), None);
        // A task that holds nothing blocks nobody.
        assert_eq!(gives_way(&[waiting("a", 1, 2), waiting("b", 2, 0)]), None);
        let fresh = Waiting {
            since: Duration::ZERO,
            ..waiting("a", 1, 2)
        };
        assert_eq!(gives_way(&[fresh, waiting("b", 2, 2)]), None);
    }

    #[test]
    fn it_tries_again_after_a_while_and_behind_the_earlier_one() {
        let suspended = [Suspended {
            key: key("b"),
            created_at: at(2),
            at: at(100),
            times: 1,
        }];
        assert_eq!(try_again(&suspended, &[], at(114)), Vec::<&Suspended>::new());
        assert_eq!(try_again(&suspended, &[], at(115)).len(), 1);
        assert_eq!(
            try_again(&suspended, &[waiting("a", 1, 1)], at(115)),
            Vec::<&Suspended>::new()
        );
        assert_eq!(try_again(&suspended, &[waiting("c", 3, 1)], at(115)).len(), 1);
        let often = [Suspended {
            times: 3,
            ..suspended[0].clone()
        }];
        assert_eq!(try_again(&often, &[], at(159)).len(), 0);
        assert_eq!(try_again(&often, &[], at(160)).len(), 1);
    }

    proptest! {
        /// The earliest waiting task never gives way, so at least one task makes progress.
        #[test]
        fn the_earliest_never_gives_way(tasks in prop::collection::vec((0_i64..5, 0_usize..3), 1..6)) {
            let tasks: Vec<Waiting> = tasks
                .into_iter()
                .enumerate()
                .map(|(index, (second, held))| waiting(&index.to_string(), second, held))
                .collect();
            let earliest = tasks.iter().min_by_key(|task| (task.created_at, &task.key)).unwrap();
            if let Some(task) = gives_way(&tasks) {
                prop_assert!(task.key != earliest.key && task.held > 0);
            }
        }
    }
}
