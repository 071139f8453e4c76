//! Keeps retrying while the server is temporarily unreachable.

use std::time::Duration;

use tokio::time::Instant;

use crate::error::{Error, Result};
use crate::output::print_message;

/// How long a server may be unreachable before the command fails.
pub(crate) const MAX_OUTAGE: Duration = Duration::from_secs(600);

/// Pause after a failure; doubles up to the maximum while the server is unreachable.
const INITIAL_BACKOFF: Duration = Duration::from_millis(100);
pub(crate) const MAX_BACKOFF: Duration = Duration::from_secs(2);

/// How long the server has been unreachable, if it is.
#[derive(Debug)]
pub(crate) struct Outage {
    since: Option<Instant>,
    patience: Duration,
    backoff: Duration,
}

impl Default for Outage {
    fn default() -> Self {
        Self::with_patience(MAX_OUTAGE)
    }
}

impl Outage {
    /// No outage yet, and how long one may last.
    pub(crate) fn with_patience(patience: Duration) -> Self {
        Self {
            since: None,
            patience,
            backoff: INITIAL_BACKOFF,
        }
    }

    /// Decides whether to retry after `error`. Reports the first failure of an outage, so that the user sees why
    /// nothing happens.
    ///
    /// # Errors
    /// Returns `error` if it is not transient or if the outage has lasted for too long.
    pub(crate) fn retry_or_fail(&mut self, error: Error) -> Result<()> {
        if !is_transient(&error) {
            return Err(error);
        }
        let since = *self.since.get_or_insert_with(|| {
            print_message(&format!("{error}; retrying"));
            Instant::now()
        });
        if since.elapsed() > self.patience {
            return Err(error);
        }
        Ok(())
    }

    /// Pauses before the next try, each time for longer.
    pub(crate) async fn pause(&mut self) {
        tokio::time::sleep(self.backoff).await;
        self.backoff = (self.backoff * 2).min(MAX_BACKOFF);
    }

    /// Something succeeded, though not all: an outage that was reported goes on, but has lasted for no time yet.
    pub(crate) fn restart(&mut self) {
        self.backoff = INITIAL_BACKOFF;
        if let Some(since) = &mut self.since {
            *since = Instant::now();
        }
    }

    /// Ends the outage.
    pub(crate) fn end(&mut self) {
        self.backoff = INITIAL_BACKOFF;
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

/// Whether the server is gone for the moment, and what was sent may not have reached it.
fn is_away(error: &Error) -> bool {
    match error {
        Error::Unreachable { .. } | Error::TimedOut(_) => true,
        Error::Proxy { status, .. } => matches!(status, 502..=504),
        Error::WrongServer { status, .. } => status.is_none(),
        _ => false,
    }
}

/// Repeats a request that may be repeated while a server that was reached before is away. What the server says is not
/// repeated, even if it is an error.
pub(crate) async fn patiently<T>(request: impl AsyncFn() -> Result<T>) -> Result<T> {
    let mut outage = Outage::default();
    loop {
        match request().await {
            Err(error) if is_away(&error) => outage.retry_or_fail(error)?,
            result => {
                outage.end();
                return result;
            }
        }
        outage.pause().await;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::time::Duration;

    use super::{Outage, patiently};
    use crate::error::{Error, ErrorMessage};

    fn away() -> Error {
        Error::TimedOut("away".to_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_ends_when_nothing_has_succeeded_for_long() {
        let mut outage = Outage::with_patience(Duration::from_secs(10));
        let pause = || tokio::time::sleep(Duration::from_secs(8));
        outage.retry_or_fail(away()).unwrap();
        pause().await;
        outage.restart();
        pause().await;
        outage.retry_or_fail(away()).unwrap();
        pause().await;
        assert!(outage.retry_or_fail(away()).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_is_repeated_until_the_server_is_back_and_not_after_what_it_says() {
        let tries = Cell::new(0);
        let answer = patiently(async || {
            tries.set(tries.get() + 1);
            if tries.get() < 5 { Err(away()) } else { Ok("stored") }
        });
        assert_eq!((answer.await.unwrap(), tries.get()), ("stored", 5));
        let said = patiently::<()>(async || {
            tries.set(tries.get() + 1);
            Err(Error::Server(ErrorMessage {
                text: "exceeded quota".to_owned(),
                status: Some(500),
                request_id: None,
            }))
        });
        assert_eq!(
            (said.await.unwrap_err().to_string().as_str(), tries.get()),
            ("exceeded quota", 6)
        );
        let gone = patiently::<()>(async || Err(away()));
        assert!(gone.await.is_err(), "not forever");
    }
}
