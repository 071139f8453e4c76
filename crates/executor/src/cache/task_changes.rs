//! Which tasks became visible or went away, for readers that must see each of them.

use std::sync::Arc;

use super::snapshot::TaskSnapshot;

/// A task became visible, or went away.
#[derive(Debug, Clone)]
pub(crate) enum TaskChange {
    Added(Arc<TaskSnapshot>),
    /// With its last snapshot.
    Removed(Arc<TaskSnapshot>),
}

/// The changes since they were last taken. Nothing is kept unless somebody takes them.
#[derive(Default)]
pub(super) struct TaskChanges(Option<Vec<TaskChange>>);

impl TaskChanges {
    /// Keeps changes from now on.
    pub(crate) fn enable(&mut self) {
        self.0.get_or_insert_default();
    }

    /// Compares the snapshots of a task before and after a change.
    pub(crate) fn note(&mut self, before: Option<&Arc<TaskSnapshot>>, after: Option<&Arc<TaskSnapshot>>) {
        let Some(changes) = &mut self.0 else { return };
        match (before, after) {
            (None, Some(after)) => changes.push(TaskChange::Added(Arc::clone(after))),
            (Some(before), None) => changes.push(TaskChange::Removed(Arc::clone(before))),
            (None, None) | (Some(_), Some(_)) => {}
        }
    }

    pub(crate) fn take(&mut self) -> Vec<TaskChange> {
        self.0.as_mut().map(std::mem::take).unwrap_or_default()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.as_ref().is_none_or(Vec::is_empty)
    }
}
