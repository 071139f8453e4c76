//! Limits repeated log lines to one per minute.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long a repeated line is suppressed.
const SUPPRESS_FOR: Duration = Duration::from_secs(60);

/// How many different lines are remembered. At the limit all are forgotten, so that memory stays bounded.
const MAX_LINES: usize = 4096;

/// When each line was last logged, and how many were suppressed since.
#[derive(Debug, Default)]
pub(crate) struct LogThrottle(Mutex<HashMap<String, (Instant, u64)>>);

impl LogThrottle {
    /// Returns `None` if a line with this key must be suppressed, else the number of lines suppressed since the last
    /// one.
    pub(crate) fn allow(&self, key: &str) -> Option<u64> {
        let now = Instant::now();
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((logged_at, suppressed)) = lines.get_mut(key) {
            if now.duration_since(*logged_at) < SUPPRESS_FOR {
                *suppressed += 1;
                return None;
            }
            *logged_at = now;
            return Some(std::mem::take(suppressed));
        }
        if lines.len() == MAX_LINES {
            lines.clear();
        }
        lines.insert(key.to_owned(), (now, 0));
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{LogThrottle, SUPPRESS_FOR};

    #[tokio::test(start_paused = true)]
    async fn the_same_is_said_once_a_minute_with_how_often_it_was_not() {
        let throttle = LogThrottle::default();
        assert_eq!(throttle.allow("a"), Some(0));
        assert_eq!(
            (throttle.allow("a"), throttle.allow("a"), throttle.allow("b")),
            (None, None, Some(0))
        );
        tokio::time::sleep(SUPPRESS_FOR + Duration::from_secs(1)).await;
        assert_eq!((throttle.allow("a"), throttle.allow("a")), (Some(2), None));
    }
}
