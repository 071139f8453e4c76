//! The pauses between attempts: a task that fails at once must not be run again at once, for ever.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::cache::TaskKey;

/// The longest pause before an attempt.
const LONGEST: Duration = Duration::from_secs(300);

/// When the next attempt of each task may begin.
#[derive(Debug, Default)]
pub struct Pauses(Mutex<HashMap<Arc<TaskKey>, (u32, Instant)>>);

impl Pauses {
    /// How long a task has still to wait before this attempt; `None` when it can begin. The first question begins the pause.
    pub fn left(&self, key: &Arc<TaskKey>, attempt: u32, now: Instant) -> Option<Duration> {
        let mut due = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = match due.get(key) {
            Some((known, at)) if *known == attempt => *at,
            _ => now + before(attempt),
        };
        // Of tasks that were stopped meanwhile nobody asks again.
        due.retain(|_, (_, at)| *at + LONGEST > now);
        // It is kept when it is over: an attempt that could not be made is tried again, without another pause.
        due.insert(Arc::clone(key), (attempt, at));
        (at > now).then(|| at - now)
    }
}

/// None before the second attempt, a second before the third, then twice as long each time.
fn before(attempt: u32) -> Duration {
    match attempt.checked_sub(3) {
        None => Duration::ZERO,
        Some(doublings) => Duration::from_secs(1)
            .saturating_mul(1 << doublings.min(16))
            .min(LONGEST),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::Pauses;
    use crate::cache::Job;

    #[test]
    fn each_attempt_waits_twice_as_long_as_the_one_before() {
        let (pauses, now) = (Pauses::default(), Instant::now());
        let seconds = |attempt| {
            pauses
                .left(&Job::example(0, 1).key, attempt, now)
                .map_or(0, |left| left.as_secs())
        };
        let waits: Vec<u64> = [2, 3, 4, 5, 12, 1000].into_iter().map(seconds).collect();
        assert_eq!(waits, [0, 1, 2, 4, 300, 300]);
    }

    #[test]
    fn a_pause_ends() {
        let (pauses, now) = (Pauses::default(), Instant::now());
        assert!(pauses.left(&Job::example(0, 1).key, 3, now).is_some());
        assert_eq!(
            pauses.left(&Job::example(0, 1).key, 3, now + Duration::from_millis(400)),
            Some(Duration::from_millis(600))
        );
        assert_eq!(
            pauses.left(&Job::example(0, 1).key, 3, now + Duration::from_secs(1)),
            None
        );
    }
}
