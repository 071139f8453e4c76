//! The pauses between attempts, so that a task that fails immediately does not retry in a tight loop.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::backoff::doubled;
use crate::cache::TaskKey;

/// The pause before the third attempt, and the longest one.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(300);

/// When the next attempt of each task may start.
#[derive(Debug, Default)]
pub struct RestartBackoff(Mutex<HashMap<Arc<TaskKey>, (u32, Instant)>>);

impl RestartBackoff {
    /// How long the task still has to wait before this attempt, or `None` if it can start. The first call starts the
    /// pause.
    pub fn left(&self, key: &Arc<TaskKey>, attempt: u32, now: Instant) -> Option<Duration> {
        let mut due = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = match due.get(key) {
            Some((known, at)) if *known == attempt => *at,
            _ => now + previous(attempt),
        };
        // Nobody asks again about tasks that were stopped, so drop their entries.
        due.retain(|_, (_, at)| *at + LONGEST > now);
        // Keep an elapsed pause: retrying a failed creation of the same attempt must not wait again.
        due.insert(Arc::clone(key), (attempt, at));
        (at > now).then(|| at - now)
    }
}

/// No pause before the second attempt, one second before the third, then twice as long each time.
fn previous(attempt: u32) -> Duration {
    match attempt.checked_sub(3) {
        None => Duration::ZERO,
        Some(doublings) => doubled(FIRST, doublings, LONGEST),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::RestartBackoff;
    use crate::cache::Job;

    #[test]
    fn each_attempt_waits_twice_as_long_as_the_one_before() {
        let (backoff, now) = (RestartBackoff::default(), Instant::now());
        let seconds = |attempt| {
            backoff
                .left(&Job::example(0, 1).key, attempt, now)
                .map_or(0, |left| left.as_secs())
        };
        let waits: Vec<u64> = [2, 3, 4, 5, 12, 1000].into_iter().map(seconds).collect();
        assert_eq!(waits, [0, 1, 2, 4, 300, 300]);
    }

    #[test]
    fn a_pause_ends() {
        let (backoff, now) = (RestartBackoff::default(), Instant::now());
        assert!(backoff.left(&Job::example(0, 1).key, 3, now).is_some());
        assert_eq!(
            backoff.left(&Job::example(0, 1).key, 3, now + Duration::from_millis(400)),
            Some(Duration::from_millis(600))
        );
        assert_eq!(
            backoff.left(&Job::example(0, 1).key, 3, now + Duration::from_secs(1)),
            None
        );
    }
}
