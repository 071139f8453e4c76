//! Shared state and timing of the background controllers.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::archiving::Archiver;
use crate::cache::{Cache, Health};
use crate::kubernetes::ApiClient;
use crate::log_throttle::LogThrottle;

/// Dependencies shared by the background controllers.
#[derive(Clone)]
pub(crate) struct ControllerContext {
    pub client: ApiClient,
    pub cache: Arc<Cache>,
    pub health: Arc<Health>,
    pub stop: CancellationToken,
    pub log_throttle: Arc<LogThrottle>,
    pub sync_delay: Duration,
    pub archiver: Option<Arc<Archiver>>,
}

/// Ticks that are skipped while the cache is outdated.
pub(crate) struct Ticker {
    interval: Interval,
    health: Arc<Health>,
    stop: CancellationToken,
}

impl ControllerContext {
    /// Logs a recurring problem at most once per minute. `what` identifies the problem.
    pub(crate) fn warn(&self, what: &str, log: impl FnOnce()) {
        if self.log_throttle.allow(what).is_some() {
            log();
        }
    }

    /// Ticks at this interval.
    pub(crate) fn ticker(&self, interval: Duration) -> Ticker {
        let mut ticks = tokio::time::interval(interval);
        // After a slow pass, wait a full interval instead of catching up.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ticker {
            interval: ticks,
            health: Arc::clone(&self.health),
            stop: self.stop.clone(),
        }
    }
}

impl Ticker {
    /// Waits for the next tick with an up-to-date cache. Returns `None` on shutdown.
    pub(crate) async fn tick(&mut self) -> Option<()> {
        loop {
            tokio::select! {
                // The fixed order makes simulations reproducible.
                biased;
                () = self.stop.cancelled() => return None,
                _ = self.interval.tick() => {}
            }
            // Acting on an outdated cache could undo what another server has done.
            if self.health.check().is_ok() {
                return Some(());
            }
        }
    }
}
