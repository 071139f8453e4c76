//! The wall clock: the system's, or a simulated one that follows tokio's clock.
//!
//! A simulation pauses tokio's clock, which then jumps from timer to timer. Wall-clock time must jump with it:
//! otherwise, a deadline in an annotation and a timer for the same instant would disagree.

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// A source of wall-clock time. Copies of a simulated clock show the same time.
#[derive(Debug, Clone, Copy, Default)]
pub struct Clock {
    /// A wall-clock time and the corresponding instant of tokio's clock; `None` for the system clock.
    origin: Option<(Timestamp, Instant)>,
}

impl Clock {
    /// The system clock, which may be adjusted and may jump.
    #[must_use]
    pub fn system() -> Self {
        Self::default()
    }

    /// A clock that shows `time` now and advances with tokio's clock, paused or not. Independent of the system clock.
    #[must_use]
    pub fn simulated(time: Timestamp) -> Self {
        Self {
            origin: Some((time, Instant::now())),
        }
    }

    /// The current wall-clock time.
    #[must_use]
    pub fn now(self) -> Timestamp {
        match self.origin {
            None => Timestamp::now(),
            Some((time, at)) => SignedDuration::try_from(at.elapsed())
                .ok()
                .and_then(|passed| time.checked_add(passed).ok())
                .unwrap_or(Timestamp::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;

    use super::Clock;

    #[tokio::test(start_paused = true)]
    async fn a_simulated_clock_follows_the_paused_clock_of_tokio() {
        let clock = Clock::simulated(Timestamp::UNIX_EPOCH);
        tokio::time::sleep(Duration::from_secs(90)).await;
        assert_eq!(clock.now().as_second(), 90);
    }
}
