//! Removing tasks that were never finished: the server that was creating them has ended.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::cache::{Cache, Health};
use crate::kubernetes::{Calls, ConfigMap};

/// How often owners are looked at. It is a look into memory.
const INTERVAL: Duration = Duration::from_secs(2);

/// How long after its deadline an owner is left alone: clocks of two replicas may differ.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(5);

/// Removes the uncommitted owners whose deadline is over, until `stop`.
pub(crate) async fn sweep(calls: Calls, cache: Arc<Cache>, health: Arc<Health>, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(INTERVAL);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        if health.check().is_err() {
            continue;
        }
        for owner in cache.abandoned(Timestamp::now() - CLOCK_TOLERANCE) {
            // The version makes this lose against a commit that arrives at the same time.
            let deleted = calls
                .delete::<ConfigMap>(
                    "remove an unfinished task",
                    &owner.name,
                    &owner.uid,
                    Some(&owner.version),
                )
                .await;
            match deleted {
                Ok(()) => tracing::warn!(
                    task_id = owner.task_id,
                    "removed a task whose creation was never finished"
                ),
                Err(error) if error.is_conflict() => {}
                Err(error) => tracing::warn!(task_id = owner.task_id, %error, "an unfinished task is still there"),
            }
        }
    }
}
