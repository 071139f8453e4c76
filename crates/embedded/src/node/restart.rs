//! Whether and when a container is restarted in its pod, as the kubelet does it.

use std::time::Duration;

use crate::container::Outcome;

/// Delay before the second restart. It doubles with each restart after that, up to `LONGEST_PAUSE`.
const PAUSE: Duration = Duration::from_secs(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// A run of this length resets the back-off.
const GOOD_RUN: Duration = Duration::from_secs(600);

/// A pod's `restartPolicy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Policy {
    Always,
    OnFailure,
    Never,
}

impl Policy {
    pub fn read(word: Option<&str>) -> Self {
        match word {
            Some("Never") => Self::Never,
            Some("OnFailure") => Self::OnFailure,
            _ => Self::Always,
        }
    }

    /// Whether a container with this outcome is restarted; `None` stands for an unknown outcome.
    pub fn restarts(self, outcome: Option<&Outcome>) -> bool {
        match self {
            Self::Always => true,
            Self::OnFailure => outcome.is_none_or(|outcome| outcome.code != 0),
            Self::Never => false,
        }
    }
}

/// Number of restarts since the last long run.
#[derive(Debug, Default)]
pub(super) struct BackOff(u32);

impl BackOff {
    /// Resumes the back-off of a container that an earlier server restarted this often.
    pub fn after(restarts: u32) -> Self {
        Self(restarts)
    }

    /// Returns the delay before the next restart, given the length of the last run. The first restart is immediate.
    pub fn next(&mut self, ran: Duration) -> Duration {
        if ran >= GOOD_RUN {
            self.0 = 0;
        }
        let doublings = self.0.checked_sub(1);
        self.0 = self.0.saturating_add(1);
        doublings.map_or(Duration::ZERO, |doublings| {
            PAUSE.saturating_mul(2_u32.saturating_pow(doublings)).min(LONGEST_PAUSE)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{BackOff, GOOD_RUN, Policy};
    use crate::container::Outcome;

    #[test]
    fn pauses_double_up_to_five_minutes_and_begin_again_after_a_good_run() {
        let mut back_off = BackOff::default();
        let soon: Vec<u64> = (0..8).map(|_| back_off.next(Duration::ZERO).as_secs()).collect();
        assert_eq!(soon, [0, 10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(back_off.next(GOOD_RUN), Duration::ZERO);
        assert_eq!(BackOff::after(3).next(Duration::ZERO).as_secs(), 40);
        assert_eq!(BackOff::after(u32::MAX).next(Duration::ZERO).as_secs(), 300);
    }

    #[test]
    fn the_policy_and_the_exit_code_decide() {
        let ended = |code| Outcome {
            code,
            ..Outcome::default()
        };
        let decided = |policy: Policy| [Some(ended(0)), Some(ended(1)), None].map(|one| policy.restarts(one.as_ref()));
        assert_eq!(decided(Policy::Always), [true, true, true]);
        assert_eq!(decided(Policy::OnFailure), [false, true, true]);
        assert_eq!(decided(Policy::Never), [false, false, false]);
    }
}
