//! Deleting tasks that ended long enough ago.
//!
//! A task that is one Job alone says so in its `ttlSecondsAfterFinished`, and Kubernetes deletes it. The Jobs of others are a
//! whole, which ends with its last Job, and goes with its owner.

use std::time::Duration;

use jiff::Timestamp;

use crate::stop;
use crate::ticks::Background;

/// How often they are looked for. It is a look into memory.
const INTERVAL: Duration = Duration::from_secs(5);

/// Deletes tasks whose time is over, until the process stops.
pub(crate) async fn expire(background: Background) {
    let mut ticks = background.every(INTERVAL);
    while ticks.next().await.is_some() {
        for (id, view) in background.cache.expired(Timestamp::now()) {
            if background.stop.is_cancelled() {
                break;
            }
            match stop::stop(&background.calls, &background.cache, &id, &view).await {
                Ok(()) => tracing::info!(
                    event = "task_expired",
                    task_id = id,
                    "deleted a task that ended long ago"
                ),
                Err(error) => tracing::warn!(task_id = id, %error, "a task that ended long ago is still there"),
            }
        }
    }
}
