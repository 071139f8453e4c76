//! Decides how long to wait for a server that does not answer, and says that the download waits.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::error::Error;
use crate::origin::Observer;

/// How long nothing arrives before it is said, and how often again. Shorter outages are nobody's business.
const SAID_AFTER: Duration = Duration::from_secs(5);
const SAID_EVERY: Duration = Duration::from_secs(60);

/// The pause after a failure; doubles up to the maximum.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// When something has arrived last, for all requests together.
pub(crate) struct Outage {
    patience: Duration,
    observer: Arc<dyn Observer>,
    state: Mutex<State>,
}

struct State {
    arrived_at: Instant,
    said_at: Option<Instant>,
}

/// The pauses of one request.
pub(crate) struct Pauses(Duration);

impl Outage {
    pub(crate) fn new(patience: Duration, observer: Arc<dyn Observer>) -> Self {
        Self {
            patience,
            observer,
            state: Mutex::new(State {
                arrived_at: Instant::now(),
                said_at: None,
            }),
        }
    }

    /// Notes that something has arrived.
    pub(crate) fn end(&self) {
        let mut state = self.state();
        state.arrived_at = Instant::now();
        if state.said_at.take().is_some() {
            self.observer.resume();
        }
    }

    /// Notes a failure. Fails if nothing has arrived for too long.
    pub(crate) fn continue_after(&self, why: String) -> Result<(), Error> {
        let mut state = self.state();
        let (now, quiet) = (Instant::now(), state.arrived_at.elapsed());
        if quiet >= self.patience {
            return Err(Error::GaveUp {
                patience: self.patience,
                last: why,
            });
        }
        let is_new = state.said_at.is_none_or(|said| now - said >= SAID_EVERY);
        if quiet >= SAID_AFTER && is_new {
            state.said_at = Some(now);
            self.observer.wait(&why);
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pauses {
    pub(crate) fn new() -> Self {
        Self(FIRST_PAUSE)
    }

    pub(crate) async fn pause(&mut self) {
        sleep(self.0).await;
        self.0 = (self.0 * 2).min(MAX_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use super::{Outage, Pauses};
    use crate::error::Error;
    use crate::origin::Observer;

    /// What was said.
    #[derive(Default)]
    struct Said(Mutex<Vec<String>>);

    impl Observer for Said {
        fn begin(&self, _: u64) {}

        fn written(&self, _: u64) {}

        fn wait(&self, why: &str) {
            self.0.lock().unwrap().push(why.to_owned());
        }

        fn resume(&self) {
            self.0.lock().unwrap().push("again".to_owned());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_ends_with_what_arrives_and_otherwise_with_the_last_reason() {
        let said = Arc::new(Said::default());
        let outage = Outage::new(Duration::from_secs(60), Arc::clone(&said) as Arc<dyn Observer>);
        let mut pauses = Pauses::new();
        let failed = || outage.continue_after("refused".to_owned());
        let start = tokio::time::Instant::now();
        while start.elapsed() < Duration::from_secs(50) {
            failed().unwrap();
            pauses.pause().await;
        }
        outage.end();
        assert_eq!(*said.0.lock().unwrap(), ["refused", "again"]);
        let again = tokio::time::Instant::now();
        let error = loop {
            match failed() {
                Ok(()) => pauses.pause().await,
                Err(error) => break error,
            }
        };
        assert!(matches!(&error, Error::GaveUp { last, .. } if last == "refused"));
        let waited = again.elapsed().as_secs();
        assert!((60..=65).contains(&waited), "{waited}");
    }
}
