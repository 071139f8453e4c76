//! Tracks up to which moment the cache is known to be complete.
//!
//! The absence of errors proves nothing: connections can die silently, and proxies can buffer. The end of a response
//! does, because it arrives after everything else in it. A watch that was requested at a known moment with a fixed
//! duration and ran to its end has therefore shown everything that happened in between.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::error::Error;

/// The kinds of objects that must be up to date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StateKind {
    Job,
    Pod,
    Volume,
    TaskOwner,
}

/// The number of those kinds.
const KINDS: usize = 4;

/// How old the cache may be. Each watch lasts 3 seconds and proves at its end that it is complete; the rest is for a
/// slow machine or kube-apiserver.
const BOUND: Duration = Duration::from_secs(10);

/// The progress and failures of the watches.
pub(crate) struct Health(Mutex<HealthState>);

struct HealthState {
    /// For each kind: everything up to this moment has been seen.
    seen: [Option<Instant>; KINDS],
    /// For each kind: why the last list or watch failed, until one succeeds.
    failures: [Option<String>; KINDS],
    started: Instant,
}

impl Default for Health {
    fn default() -> Self {
        Self(Mutex::new(HealthState {
            seen: [None; KINDS],
            failures: Default::default(),
            started: Instant::now(),
        }))
    }
}

impl Health {
    /// Fails with [`Error::OutOfSync`] if the cache may lack a change that is older than 10 seconds.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let now = Instant::now();
        let state = self.lock();
        let seen = state.seen.iter().min().copied().flatten();
        let age = now.saturating_duration_since(seen.unwrap_or(state.started));
        if seen.is_some() && age < BOUND {
            return Ok(());
        }
        Err(Error::OutOfSync {
            since: age,
            reason: state
                .first_failure()
                .unwrap_or_else(|| "the watches are silent".to_owned()),
        })
    }

    /// Why the last list or watch failed, if it did.
    pub(crate) fn last_failure(&self) -> Option<String> {
        self.lock().first_failure()
    }

    /// Records that everything of a kind that happened up to `moment` has been seen.
    pub(super) fn record_seen(&self, kind: StateKind, moment: Instant) {
        let mut state = self.lock();
        let seen = &mut state.seen[kind as usize];
        *seen = (*seen).max(Some(moment));
        state.failures[kind as usize] = None;
    }

    pub(super) fn record_failure(&self, kind: StateKind, failure: String) {
        self.lock().failures[kind as usize] = Some(failure);
    }

    fn lock(&self) -> MutexGuard<'_, HealthState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HealthState {
    fn first_failure(&self) -> Option<String> {
        self.failures.iter().flatten().next().cloned()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{Instant, sleep};

    use super::{BOUND, Health, KINDS, StateKind};

    const ALL: [StateKind; KINDS] = [StateKind::Job, StateKind::Pod, StateKind::Volume, StateKind::TaskOwner];

    #[tokio::test(start_paused = true)]
    async fn nothing_is_answered_before_every_kind_was_listed() {
        let health = Health::default();
        ALL[1..]
            .iter()
            .for_each(|kind| health.record_seen(*kind, Instant::now()));
        assert!(health.check().is_err());
        health.record_seen(ALL[0], Instant::now());
        assert!(health.check().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_not_trusted_for_longer_than_the_bound() {
        let health = Health::default();
        ALL.iter().for_each(|kind| health.record_seen(*kind, Instant::now()));
        sleep(BOUND - Duration::from_millis(1)).await;
        assert!(health.check().is_ok());
        sleep(Duration::from_millis(1)).await;
        let error = health.check().unwrap_err().to_string();
        assert!(error.contains("the watches are silent"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn one_silent_kind_is_enough_and_its_failure_is_said() {
        let health = Health::default();
        ALL.iter().for_each(|kind| health.record_seen(*kind, Instant::now()));
        sleep(BOUND).await;
        ALL[1..]
            .iter()
            .for_each(|kind| health.record_seen(*kind, Instant::now()));
        health.record_failure(ALL[0], "pods is forbidden".to_owned());
        assert!(health.check().unwrap_err().to_string().contains("pods is forbidden"));
        health.record_seen(ALL[0], Instant::now());
        assert!(health.check().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_late_answer_proves_is_the_moment_of_its_question() {
        let health = Health::default();
        let asked = Instant::now();
        sleep(BOUND).await;
        ALL.iter().for_each(|kind| health.record_seen(*kind, asked));
        assert!(health.check().is_err());
    }
}
