//! Whether the cache shows the present: the watches have listed, none of them is broken, and the API server answers.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::Error;

/// How many kinds of objects are watched.
pub(super) const KINDS: usize = 5;

/// For how long answers are still given after the cache has lost contact. What is answered then was true this long ago,
/// which is less than an event may take on a busy cluster; a watch that is renewed must not make requests fail.
const GRACE: Duration = Duration::from_secs(5);

/// After a failure a watch tries again within its longest pause (1 s) and says when it failed again; a silence of this
/// length means that it holds.
const SETTLED: Duration = Duration::from_millis(1500);

/// What the watches and the probe report.
pub struct Health {
    state: Mutex<State>,
}

struct State {
    listed: [bool; KINDS],
    broken: [Option<Instant>; KINDS],
    unreachable: bool,
    /// When everything was last known to be well.
    well: Option<Instant>,
    started: Instant,
    last_failure: Option<String>,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            state: Mutex::new(State {
                listed: [false; KINDS],
                broken: [None; KINDS],
                unreachable: false,
                well: None,
                started: Instant::now(),
                last_failure: None,
            }),
        }
    }
}

impl Health {
    /// Whether reads can be answered from the cache.
    ///
    /// # Errors
    /// [`Error::OutOfSync`] when the cache may be older than the moment for which it is trusted without contact.
    pub fn check(&self) -> Result<(), Error> {
        self.check_at(Instant::now())
    }

    /// Why the last list, watch or probe failed.
    #[must_use]
    pub fn last_failure(&self) -> Option<String> {
        self.lock().last_failure.clone()
    }

    pub(super) fn listed(&self, kind: usize) {
        let mut state = self.lock();
        state.listed[kind] = true;
        state.broken[kind] = None;
        state.note(Instant::now());
    }

    pub(super) fn watched(&self, kind: usize) {
        let mut state = self.lock();
        state.broken[kind] = None;
        state.note(Instant::now());
    }

    pub(super) fn failed(&self, kind: usize, failure: String) {
        let mut state = self.lock();
        state.note(Instant::now());
        state.broken[kind] = Some(Instant::now());
        state.last_failure = Some(failure);
    }

    /// What the regular call to the API server came to.
    pub fn probed(&self, answer: Result<(), String>) {
        let mut state = self.lock();
        // Noted before the change: until now everything was as the state said.
        if answer.is_ok() {
            state.unreachable = false;
            state.note(Instant::now());
        } else {
            state.unreachable = true;
            state.last_failure = answer.err();
        }
    }

    fn check_at(&self, now: Instant) -> Result<(), Error> {
        let state = self.lock();
        let trusted = state
            .well
            .is_some_and(|well| now.saturating_duration_since(well) < GRACE);
        if state.is_well(now) || trusted {
            return Ok(());
        }
        Err(Error::OutOfSync {
            since: now.saturating_duration_since(state.well.unwrap_or(state.started)),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_well(&self, now: Instant) -> bool {
        let broken =
            |failure: &Option<Instant>| failure.is_some_and(|failure| now.saturating_duration_since(failure) < SETTLED);
        self.listed.iter().all(|listed| *listed) && !self.unreachable && !self.broken.iter().any(broken)
    }

    fn note(&mut self, now: Instant) {
        if self.is_well(now) {
            self.well = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{GRACE, Health, KINDS, SETTLED};

    fn listed() -> Health {
        let health = Health::default();
        (0..KINDS).for_each(|kind| health.listed(kind));
        health
    }

    #[test]
    fn nothing_is_answered_before_every_kind_was_listed() {
        let health = Health::default();
        (1..KINDS).for_each(|kind| health.listed(kind));
        assert!(health.check().is_err());
        health.listed(0);
        assert!(health.check().is_ok());
    }

    #[test]
    fn a_short_loss_of_contact_is_bridged_and_a_long_one_is_not() {
        let health = listed();
        health.probed(Err("refused".to_owned()));
        assert!(health.check().is_ok());
        assert!(health.check_at(Instant::now() + GRACE).is_err());
        health.probed(Ok(()));
        assert!(health.check_at(Instant::now() + GRACE).is_ok());
    }

    #[test]
    fn a_watch_that_failed_is_trusted_again_when_it_has_been_silent() {
        let health = listed();
        health.failed(0, "cut".to_owned());
        let later = Instant::now() + SETTLED + Duration::from_millis(1);
        assert!(health.check_at(later).is_ok());
    }

    #[test]
    fn a_watch_that_goes_on_failing_is_not_trusted() {
        let health = listed();
        // As if the loss had begun long ago.
        health.lock().well = Instant::now().checked_sub(GRACE);
        health.failed(0, "cut".to_owned());
        health.lock().well = Instant::now().checked_sub(GRACE);
        assert!(health.check().is_err());
    }
}
