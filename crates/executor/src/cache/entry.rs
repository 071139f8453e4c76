//! A task in the cache, as a search sees it.

use std::sync::Arc;

use super::identity::TaskKey;
use super::job::Job;
use super::reasons::FAILED_CREATE;
use super::task::Task;
use super::warnings::Warnings;

/// A task in the cache.
pub(crate) struct CacheEntry<'a> {
    pub key: &'a Arc<TaskKey>,
    pub task: &'a Task,
    pub(super) warnings: &'a Warnings,
}

impl CacheEntry<'_> {
    /// Whether Kubernetes could not create the pod of this Job when it last tried, e.g., because of a quota.
    pub(crate) fn has_failed_create(&self, job: &Job) -> bool {
        let warning = self.warnings.get(&job.uid);
        warning.is_some_and(|warning| warning.reason == FAILED_CREATE)
    }
}
