//! Runs blocking file work off the async threads, with bounded concurrency.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::{JoinError, spawn_blocking};

/// Maximum number of concurrent calls. Hundreds of threads reading files would starve everything else on the machine.
const MAX_CONCURRENT: usize = 4;

/// Bounds concurrent blocking calls; clones share the bound.
#[derive(Debug, Clone)]
pub(crate) struct BlockingPool(Arc<Semaphore>);

impl Default for BlockingPool {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_CONCURRENT)))
    }
}

impl BlockingPool {
    /// Runs `work` on a blocking thread, once a slot is free.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        // The semaphore is never closed; if it were, the work would run without a permit.
        let permit = Arc::clone(&self.0).acquire_owned().await.ok();
        spawn_blocking(move || {
            // Held by the thread: it can't be cancelled, so it needs its slot even if the caller is gone.
            let _permit = permit;
            work()
        })
        .await
    }
}
