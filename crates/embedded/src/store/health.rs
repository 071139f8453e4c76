//! Whether the store can be written, as its writer has found.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::Error;

/// What its transactions show.
#[derive(Debug, Default)]
pub(super) struct Health(Mutex<Shown>);

#[derive(Debug, Default)]
struct Shown {
    /// Why the last one failed.
    failure: Option<String>,
    /// When the one began that is under way.
    begun: Option<Instant>,
}

impl Health {
    fn shown(&self) -> MutexGuard<'_, Shown> {
        // Nothing panics while it holds the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A transaction begins.
    pub fn begins(&self) {
        self.shown().begun = Some(Instant::now());
    }

    /// It is over.
    pub fn ends(&self) {
        self.shown().begun = None;
    }

    pub fn failed(&self, why: String) {
        self.shown().failure = Some(why);
    }

    pub fn works(&self) {
        self.shown().failure = None;
    }

    /// # Errors
    /// Why the last transaction failed.
    pub fn check(&self) -> Result<(), Error> {
        match &self.shown().failure {
            None => Ok(()),
            Some(why) => Err(Error::Unwritable(why.clone())),
        }
    }

    /// # Errors
    /// A transaction has not ended within `limit`.
    pub fn check_pace(&self, limit: Duration) -> Result<(), Error> {
        match self.shown().begun.map(|begun| begun.elapsed()) {
            Some(elapsed) if elapsed > limit => Err(Error::Hanging(elapsed)),
            _ => Ok(()),
        }
    }
}
