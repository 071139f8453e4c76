//! Tracks whether the store is writable.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::Error;

/// The writer records its transactions here, and others check them.
#[derive(Debug, Default)]
pub(super) struct Health(Mutex<Shown>);

#[derive(Debug, Default)]
struct Shown {
    /// Why the last transaction failed, if it did.
    failure: Option<String>,
    /// When the running transaction began, if there is one.
    begun: Option<Instant>,
}

impl Health {
    fn shown(&self) -> MutexGuard<'_, Shown> {
        // No code panics while it holds the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn begins(&self) {
        self.shown().begun = Some(Instant::now());
    }

    pub fn ends(&self) {
        self.shown().begun = None;
    }

    pub fn failed(&self, why: String) {
        self.shown().failure = Some(why);
    }

    pub fn works(&self) {
        self.shown().failure = None;
    }

    /// Fails if the last transaction failed.
    pub fn check(&self) -> Result<(), Error> {
        match &self.shown().failure {
            None => Ok(()),
            Some(why) => Err(Error::Unwritable(why.clone())),
        }
    }

    /// Fails if the running transaction has taken longer than `limit`.
    pub fn check_pace(&self, limit: Duration) -> Result<(), Error> {
        match self.shown().begun.map(|begun| begun.elapsed()) {
            Some(elapsed) if elapsed > limit => Err(Error::Hanging(elapsed)),
            _ => Ok(()),
        }
    }
}
