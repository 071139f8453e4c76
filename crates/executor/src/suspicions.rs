//! What looks wrong in the cache must do so for a while before Kubernetes is asked about it: a watch may be behind.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How long something must have looked wrong before Kubernetes is asked.
pub(crate) const PATIENCE: Duration = Duration::from_secs(3);

/// Since when tasks have looked wrong.
#[derive(Debug, Default)]
pub(crate) struct Suspicions(HashMap<String, Instant>);

impl Suspicions {
    /// Those of the tasks that look wrong now that have done so for a while.
    pub(crate) fn lasting<T>(&mut self, wrong: Vec<(String, T)>) -> Vec<(String, T)> {
        self.0.retain(|id, _| wrong.iter().any(|(known, _)| known == id));
        let mut lasts = |id: &String| self.0.entry(id.clone()).or_insert_with(Instant::now).elapsed() >= PATIENCE;
        wrong.into_iter().filter(|(id, _)| lasts(id)).collect()
    }
}
