//! Keeps retrying while the server is temporarily unreachable.

use std::time::Duration;

use tokio::time::Instant;

use crate::error::{Error, Result};
use crate::output::print_message;

/// How long a server may be unreachable before the command fails.
const MAX_OUTAGE: Duration = Duration::from_secs(600);

/// How long the server has been unreachable, if it is.
#[derive(Debug, Default)]
pub(crate) struct Outage {
    since: Option<Instant>,
}

impl Outage {
    /// Decides whether to retry after `error`. Reports the first failure of an outage, so that the user sees why
    /// nothing happens.
    ///
    /// # Errors
    /// Returns `error` if it is not transient or if the outage has lasted for [`MAX_OUTAGE`].
    pub(crate) fn retry_or_fail(&mut self, error: Error) -> Result<()> {
        if !is_transient(&error) {
            return Err(error);
        }
        let since = *self.since.get_or_insert_with(|| {
            print_message(&format!("{error}; retrying"));
            Instant::now()
        });
        if since.elapsed() > MAX_OUTAGE {
            return Err(error);
        }
        Ok(())
    }

    /// Ends the outage.
    pub(crate) fn end(&mut self) {
        if self.since.take().is_some() {
            print_message("reconnected");
        }
    }
}

/// Whether the same request may succeed in a moment.
pub(crate) fn is_transient(error: &Error) -> bool {
    match error {
        Error::Unreachable { .. } | Error::TimedOut(_) => true,
        // A proxy reports 502 to 504 while the server behind it restarts.
        Error::Proxy { status, .. } => matches!(status, 429 | 502..=504),
        // A program that does not respond may be a server that is starting.
        Error::WrongServer { status, .. } => status.is_none(),
        Error::Server(message) => matches!(message.status, Some(429 | 500 | 502 | 503 | 504)),
        _ => false,
    }
}
