//! Work on files, aside from the async threads, and never more of it at once than the machine can do.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::{JoinError, spawn_blocking};

/// How much is done at once. Hundreds of threads that read files would take the processors from everybody else.
const AT_ONCE: usize = 4;

/// A place to do such work.
#[derive(Debug, Clone)]
pub(crate) struct Aside(Arc<Semaphore>);

impl Default for Aside {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(AT_ONCE)))
    }
}

impl Aside {
    /// Does `work`, when it is its turn.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, JoinError> {
        // Nobody closes it: without a permit the work is done all the same.
        let permit = Arc::clone(&self.0).acquire_owned().await.ok();
        spawn_blocking(move || {
            let _permit = permit;
            work()
        })
        .await
    }
}
