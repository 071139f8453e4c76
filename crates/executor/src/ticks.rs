//! Shared state and timing of the background controllers.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::cache::{Cache, Health};
use crate::folded::Folded;
use crate::kubernetes::Calls;

/// Dependencies shared by the background controllers.
#[derive(Clone)]
pub(crate) struct Background {
    pub calls: Calls,
    pub cache: Arc<Cache>,
    pub health: Arc<Health>,
    pub stop: CancellationToken,
    pub folded: Arc<Folded>,
    pub hears_within: Duration,
}

/// Ticks that are skipped while the cache is outdated.
pub(crate) struct Ticks {
    ticks: Interval,
    health: Arc<Health>,
    stop: CancellationToken,
}

impl Background {
    /// Logs a recurring problem at most once per minute. `what` identifies the problem.
    pub fn warn(&self, what: &str, say: impl FnOnce()) {
        if self.folded.tell(what).is_some() {
            say();
        }
    }

    /// Ticks at this interval.
    pub fn every(&self, interval: Duration) -> Ticks {
        let mut ticks = tokio::time::interval(interval);
        // After a slow pass, wait a full interval instead of catching up.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ticks {
            ticks,
            health: Arc::clone(&self.health),
            stop: self.stop.clone(),
        }
    }
}

impl Ticks {
    /// Waits for the next tick with an up-to-date cache. Returns `None` on shutdown.
    pub async fn next(&mut self) -> Option<()> {
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return None,
                _ = self.ticks.tick() => {}
            }
            // Acting on an outdated cache could undo what another server has done.
            if self.health.check().is_ok() {
                return Some(());
            }
        }
    }
}
