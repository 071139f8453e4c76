//! Whether and when a container is restarted in its pod, as the kubelet does it.

use std::time::Duration;

use crate::container::ContainerOutcome;

/// Delay before the second restart. It doubles with each restart after that, up to `MAX_DELAY`.
const FIRST_DELAY: Duration = Duration::from_secs(10);
const MAX_DELAY: Duration = Duration::from_secs(300);

/// A run of this length resets the back-off.
const RESET_AFTER: Duration = Duration::from_secs(600);

/// A pod's `restartPolicy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RestartPolicy {
    Always,
    OnFailure,
    Never,
}

impl RestartPolicy {
    pub(crate) fn parse(word: Option<&str>) -> Self {
        match word {
            Some("Never") => Self::Never,
            Some("OnFailure") => Self::OnFailure,
            _ => Self::Always,
        }
    }

    /// Whether a container with this outcome is restarted; `None` stands for an unknown outcome.
    pub(crate) fn restarts(self, outcome: Option<&ContainerOutcome>) -> bool {
        match self {
            Self::Always => true,
            Self::OnFailure => outcome.is_none_or(|outcome| outcome.code != 0),
            Self::Never => false,
        }
    }
}

/// What to do after the back-off delay.
pub(super) enum RestartDecision {
    /// Restart the container.
    Restart,
    /// The pod is being deleted or has exceeded its deadline.
    Finish,
    /// The server is stopping, and the next one continues.
    LeaveToNextServer,
}

/// Number of restarts since the last long run.
#[derive(Debug, Default)]
pub(super) struct CrashLoopBackoff(u32);

impl CrashLoopBackoff {
    /// Resumes the back-off of a container that an earlier server restarted this often.
    pub(crate) fn after(restarts: u32) -> Self {
        Self(restarts)
    }

    /// Returns the delay before the next restart, given the length of the last run. The first restart is immediate.
    pub(crate) fn next(&mut self, ran: Duration) -> Duration {
        if ran >= RESET_AFTER {
            self.0 = 0;
        }
        let doublings = self.0.checked_sub(1);
        self.0 = self.0.saturating_add(1);
        doublings.map_or(Duration::ZERO, |doublings| {
            FIRST_DELAY
                .saturating_mul(2_u32.saturating_pow(doublings))
                .min(MAX_DELAY)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{CrashLoopBackoff, RESET_AFTER, RestartPolicy};
    use crate::container::ContainerOutcome;

    #[test]
    fn pauses_double_up_to_five_minutes_and_begin_again_after_a_good_run() {
        let mut backoff = CrashLoopBackoff::default();
        let soon: Vec<u64> = (0..8).map(|_| backoff.next(Duration::ZERO).as_secs()).collect();
        assert_eq!(soon, [0, 10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(backoff.next(RESET_AFTER), Duration::ZERO);
        assert_eq!(CrashLoopBackoff::after(3).next(Duration::ZERO).as_secs(), 40);
        assert_eq!(CrashLoopBackoff::after(u32::MAX).next(Duration::ZERO).as_secs(), 300);
    }

    #[test]
    fn the_policy_and_the_exit_code_decide() {
        let ended = |code| ContainerOutcome {
            code,
            ..ContainerOutcome::default()
        };
        let decided =
            |policy: RestartPolicy| [Some(ended(0)), Some(ended(1)), None].map(|one| policy.restarts(one.as_ref()));
        assert_eq!(decided(RestartPolicy::Always), [true, true, true]);
        assert_eq!(decided(RestartPolicy::OnFailure), [false, true, true]);
        assert_eq!(decided(RestartPolicy::Never), [false, false, false]);
    }
}
