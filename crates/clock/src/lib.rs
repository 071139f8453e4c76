//! The time of day: the machine's, or a simulated one that follows tokio's clock.
//!
//! A simulation pauses tokio's clock and lets it jump from timer to timer. The time of day must jump with it, or a deadline
//! in an annotation and a timer for the same moment would disagree.

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// Tells the time of day. Copies of a simulated clock show the same time.
#[derive(Debug, Clone, Copy, Default)]
pub struct Clock {
    /// A time of day and the moment of tokio's clock at which it was; `None` for the machine's own clock.
    origin: Option<(Timestamp, Instant)>,
}

impl Clock {
    /// The clock of this machine, which may be set and may jump.
    #[must_use]
    pub fn system() -> Self {
        Self::default()
    }

    /// A clock that shows `time` now and goes on with tokio's clock, paused or not. The machine's clock plays no part in it.
    #[must_use]
    pub fn simulated(time: Timestamp) -> Self {
        Self {
            origin: Some((time, Instant::now())),
        }
    }

    /// The time of day.
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
