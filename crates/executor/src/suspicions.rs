//! What looks wrong in the cache must do so for a while before Kubernetes is asked about it: a watch may be behind.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::cache::TaskKey;

/// How long something must have looked wrong before Kubernetes is asked.
pub(crate) const PATIENCE: Duration = Duration::from_secs(3);

/// Since when tasks have looked wrong.
#[derive(Debug, Default)]
pub(crate) struct Suspicions(HashMap<Arc<TaskKey>, Instant>);

impl Suspicions {
    /// Those of the tasks that look wrong now that have done so for a while.
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
