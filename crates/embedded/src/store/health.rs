//! Tracks whether the store is writable.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::Error;

/// The writer records its transactions here, and others check them.
#[derive(Debug, Default)]
pub(super) struct WriterHealth(Mutex<HealthState>);

#[derive(Debug, Default)]
struct HealthState {
    /// Why the last transaction failed, if it did.
    failure: Option<String>,
    /// When the running transaction began, if there is one.
    begun: Option<Instant>,
}

impl WriterHealth {
    fn state(&self) -> MutexGuard<'_, HealthState> {
        // No code panics while it holds the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn transaction_began(&self) {
        self.state().begun = Some(Instant::now());
    }

    pub(crate) fn transaction_ended(&self) {
        self.state().begun = None;
    }

    pub(crate) fn record_failure(&self, why: String) {
        self.state().failure = Some(why);
    }

    pub(crate) fn record_success(&self) {
        self.state().failure = None;
    }

    /// Fails if the last transaction failed.
    pub(crate) fn check(&self) -> Result<(), Error> {
        match &self.state().failure {
            None => Ok(()),
            Some(why) => Err(Error::Unwritable(why.clone())),
        }
    }

    /// Fails if the running transaction has taken longer than `limit`.
    pub(crate) fn check_stalled(&self, limit: Duration) -> Result<(), Error> {
        match self.state().begun.map(|begun| begun.elapsed()) {
            Some(elapsed) if elapsed > limit => Err(Error::Stalled(elapsed)),
            _ => Ok(()),
        }
    }
}
