//! Riding out a server that does not answer for a while.

use std::time::Duration;

use tokio::time::Instant;

use crate::error::{Error, Result};
use crate::output::say;

/// How long a server may be away before the person is told to give up on it.
const PATIENCE: Duration = Duration::from_secs(600);

/// Since when a server has not answered.
#[derive(Debug, Default)]
pub struct Away {
    since: Option<Instant>,
}

impl Away {
    /// What a request has failed with: says so once, and gives it back when it is no passing thing, or has lasted too long.
    ///
    /// # Errors
    /// There is no use in trying again.
    pub fn ride_out(&mut self, error: Error) -> Result<()> {
        if !is_passing(&error) {
            return Err(error);
        }
        let since = *self.since.get_or_insert_with(|| {
            say(&format!("{error}; trying again"));
            Instant::now()
        });
        if since.elapsed() > PATIENCE {
            return Err(error);
        }
        Ok(())
    }

    /// It answers.
    pub fn is_back(&mut self) {
        if self.since.take().is_some() {
            say("connected again");
        }
    }
}

/// Whether it may work in a moment.
pub fn is_passing(error: &Error) -> bool {
    match error {
        Error::Unreachable { .. } | Error::TimedOut(_) => true,
        // A proxy whose server is restarted, or somebody who is slow.
        Error::Stranger { status, .. } => matches!(status, None | Some(429 | 502..=504)),
        Error::Server(said) => matches!(said.status, Some(429 | 500 | 502 | 503 | 504)),
        _ => false,
    }
}
