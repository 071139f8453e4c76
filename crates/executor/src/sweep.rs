//! Removing tasks that were never finished: the server that was creating them has ended.

use std::time::Duration;

use jiff::Timestamp;

use crate::kubernetes::ConfigMap;
use crate::ticks::Background;

/// How often owners are looked at. It is a look into memory.
const INTERVAL: Duration = Duration::from_secs(2);

/// How long after its deadline an owner is left alone: clocks of two replicas may differ.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(5);

/// Removes the uncommitted owners whose deadline is over, until the process stops.
pub(crate) async fn sweep(background: Background) {
    let mut ticks = background.every(INTERVAL);
    while ticks.next().await.is_some() {
        for owner in background.cache.abandoned(Timestamp::now() - CLOCK_TOLERANCE) {
            // The version makes this lose against a commit that arrives at the same time.
            let deleted = background
                .calls
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
