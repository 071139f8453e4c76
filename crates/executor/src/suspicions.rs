//! Delays reactions to inconsistencies in the cache, which may only mean that one watch lags behind another.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::cache::TaskKey;

/// How long an inconsistency must last before Kubernetes is asked about it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(3);

/// When each inconsistency was first seen.
#[derive(Debug, Default)]
pub(crate) struct Suspicions(HashMap<Arc<TaskKey>, Instant>);

impl Suspicions {
    /// Those of the inconsistent tasks that have been so for [`PATIENCE`]. Tasks that are not passed are forgotten.
    pub(crate) fn lasting<T>(&mut self, wrong: Vec<(Arc<TaskKey>, T)>) -> Vec<(Arc<TaskKey>, T)> {
        let known = std::mem::take(&mut self.0);
        for (key, _) in &wrong {
            let since = known.get(key).copied().unwrap_or_else(Instant::now);
            self.0.insert(Arc::clone(key), since);
        }
        wrong
            .into_iter()
            .filter(|(key, _)| self.0[key].elapsed() >= PATIENCE)
            .collect()
    }
}
