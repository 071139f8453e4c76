//! Keeps retrying while the server is temporarily unreachable.

use std::time::Duration;

use tokio::time::Instant;

use crate::error::{Error, Result};
use crate::output::say;

/// How long a server may be unreachable before the command fails.
const PATIENCE: Duration = Duration::from_secs(600);

/// How long the server has been unreachable, if it is.
#[derive(Debug, Default)]
pub struct Away {
    since: Option<Instant>,
}

impl Away {
    /// Decides whether to retry after `error`. Reports the first failure of an outage, so that the user sees why
    /// nothing happens.
    ///
    /// # Errors
    /// Returns `error` if it is not transient or if the outage has lasted for [`PATIENCE`].
    pub fn ride_out(&mut self, error: Error) -> Result<()> {
        if !is_passing(&error) {
            return Err(error);
        }
        let since = *self.since.get_or_insert_with(|| {
            say(&format!("{error}; retrying"));
            Instant::now()
        });
        if since.elapsed() > PATIENCE {
            return Err(error);
        }
        Ok(())
    }

    /// Ends the outage.
    pub fn is_back(&mut self) {
        if self.since.take().is_some() {
            say("reconnected");
        }
    }
}

/// Whether the same request may succeed in a moment.
pub fn is_passing(error: &Error) -> bool {
    match error {
        Error::Unreachable { .. } | Error::TimedOut(_) => true,
        // A proxy reports 502 to 504 while the server behind it restarts.
        Error::Stranger { status, .. } => matches!(status, None | Some(429 | 502..=504)),
        Error::Server(said) => matches!(said.status, Some(429 | 500 | 502 | 503 | 504)),
        _ => false,
    }
}
