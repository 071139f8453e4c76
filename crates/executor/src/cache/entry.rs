//! A task in the cache, as a search sees it.

use std::sync::Arc;

use super::identity::TaskKey;
use super::job::Job;
use super::object::TaskOwner;
use super::reasons::FAILED_CREATE;
use super::state::CacheState;
use super::task::Task;

/// A task in the cache.
pub(crate) struct CacheEntry<'a> {
    pub key: &'a Arc<TaskKey>,
    pub task: &'a Task,
    pub(super) state: &'a CacheState,
}

impl CacheEntry<'_> {
    /// Whether Kubernetes could not create the pod of this Job when it last tried, e.g., because of a quota.
    pub(crate) fn has_failed_create(&self, job: &Job) -> bool {
        let warning = self.state.warnings.get(&job.uid);
        warning.is_some_and(|warning| warning.reason == FAILED_CREATE)
    }

    /// Whether another task of the same group has not finished, or is not known to exist yet.
    pub(crate) fn has_unfinished_group(&self) -> bool {
        let leads_incomplete = |owner: &TaskOwner| owner.leads_group() && !owner.group_complete;
        if self.task.owner().is_some_and(leads_incomplete) {
            return true;
        }
        let group = self
            .task
            .group
            .as_ref()
            .and_then(|group| self.state.by_group.get(group));
        let mut tasks = group.into_iter().flatten().filter_map(|key| self.state.tasks.get(key));
        tasks.any(|task| task.snapshot.as_ref().is_none_or(|snapshot| !snapshot.state.is_final()))
    }
}
