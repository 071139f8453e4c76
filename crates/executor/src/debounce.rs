//! Delays reactions to inconsistencies in the cache, which may only mean that one watch lags behind another.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::cache::TaskKey;

/// How long an inconsistency must last before Kubernetes is asked about it.
pub(crate) const CONFIRM_AFTER: Duration = Duration::from_secs(3);

/// When each inconsistency was first seen.
#[derive(Debug, Default)]
pub(crate) struct Debounce(HashMap<Arc<TaskKey>, Instant>);

impl Debounce {
    /// Those of the inconsistent tasks that have been so for [`CONFIRM_AFTER`]. Forgets the tasks that are not passed.
    pub(crate) fn confirmed<T>(&mut self, inconsistent: Vec<(Arc<TaskKey>, T)>) -> Vec<(Arc<TaskKey>, T)> {
        let before = std::mem::take(&mut self.0);
        for (key, _) in &inconsistent {
            let since = before.get(key).copied().unwrap_or_else(Instant::now);
            self.0.insert(Arc::clone(key), since);
        }
        inconsistent
            .into_iter()
            .filter(|(key, _)| self.0[key].elapsed() >= CONFIRM_AFTER)
            .collect()
    }
}
