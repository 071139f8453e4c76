//! Limits repeated log lines to one per minute.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long a repeated line is suppressed.
const QUIET: Duration = Duration::from_secs(60);

/// How many different lines are remembered. At the limit all are forgotten, so that memory stays bounded.
const MAX_KNOWN: usize = 4096;

/// When each line was last logged, and how many were suppressed since.
#[derive(Debug, Default)]
pub(crate) struct Folded(Mutex<HashMap<String, (Instant, u64)>>);

impl Folded {
    /// Returns `None` if a line with this key must be suppressed, else the number of lines suppressed since the last
    /// one.
    pub fn tell(&self, what: &str) -> Option<u64> {
        let now = Instant::now();
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((said, unsaid)) = known.get_mut(what) {
            if now.duration_since(*said) < QUIET {
                *unsaid += 1;
                return None;
            }
            *said = now;
            return Some(std::mem::take(unsaid));
        }
        if known.len() == MAX_KNOWN {
            known.clear();
        }
        known.insert(what.to_owned(), (now, 0));
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Folded, QUIET};

    #[tokio::test(start_paused = true)]
    async fn the_same_is_said_once_a_minute_with_how_often_it_was_not() {
        let folded = Folded::default();
        assert_eq!(folded.tell("a"), Some(0));
        assert_eq!(
            (folded.tell("a"), folded.tell("a"), folded.tell("b")),
            (None, None, Some(0))
        );
        tokio::time::sleep(QUIET + Duration::from_secs(1)).await;
        assert_eq!((folded.tell("a"), folded.tell("a")), (Some(2), None));
    }
}
