//! Looking after things from time to time.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::cache::{Cache, Health};
use crate::folded::Folded;
use crate::kubernetes::Calls;

/// What those need who look after things in the background.
#[derive(Clone)]
pub(crate) struct Background {
    pub calls: Calls,
    pub cache: Arc<Cache>,
    pub health: Arc<Health>,
    pub stop: CancellationToken,
    pub folded: Arc<Folded>,
    pub hears_within: Duration,
}

/// Times to look at things.
pub(crate) struct Ticks {
    ticks: Interval,
    health: Arc<Health>,
    stop: CancellationToken,
}

impl Background {
    /// Says something in the log that would be said each second, once a minute. `what` tells it from others.
    pub fn warn(&self, what: &str, say: impl FnOnce()) {
        if self.folded.tell(what).is_some() {
            say();
        }
    }

    /// Times to look, so far apart.
    pub fn every(&self, interval: Duration) -> Ticks {
        let mut ticks = tokio::time::interval(interval);
        // What took longer than the interval needs no other look at once.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ticks {
            ticks,
            health: Arc::clone(&self.health),
            stop: self.stop.clone(),
        }
    }
}

impl Ticks {
    /// Waits for the next time at which what is in the cache is true; `None` when the process stops.
    pub async fn next(&mut self) -> Option<()> {
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return None,
                _ = self.ticks.tick() => {}
            }
            // What is not known must not be acted on.
            if self.health.check().is_ok() {
                return Some(());
            }
        }
    }
}
