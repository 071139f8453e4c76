//! Remembers deleted objects, so that a late response or event cannot bring one back.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

/// How long a deleted object is remembered: longer than any call can take.
const RETENTION: Duration = Duration::from_secs(300);

/// How this process learned that an object is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Removal {
    /// The response to a call confirmed the deletion.
    Deleted,
    /// A watch no longer shows the object. It may be deleted, or only its labels changed, and may change back.
    Unlisted,
}

/// Deleted objects by uid.
#[derive(Debug, Default)]
pub(super) struct Tombstones {
    removals: HashMap<String, Removal>,
    /// The uids in order of deletion, for expiry.
    order: VecDeque<(String, Instant)>,
}

impl Tombstones {
    /// Remembers that an object is gone.
    pub(crate) fn add(&mut self, uid: &str, how: Removal) {
        let now = Instant::now();
        while self
            .order
            .front()
            .is_some_and(|(_, at)| now.duration_since(*at) >= RETENTION)
        {
            if let Some((oldest, _)) = self.order.pop_front() {
                self.removals.remove(&oldest);
            }
        }
        match self.removals.get_mut(uid) {
            // A confirmed deletion is final, even if a watch still shows the object.
            Some(known) if how == Removal::Deleted => *known = how,
            Some(_) => {}
            None => {
                self.removals.insert(uid.to_owned(), how);
                self.order.push_back((uid.to_owned(), now));
            }
        }
    }

    /// Whether a response about this object is too late to be applied.
    pub(crate) fn contains(&self, uid: &str) -> bool {
        self.removals.contains_key(uid)
    }

    /// Whether a watch event about this object is outdated. An object that only disappeared from a watch has come back.
    pub(crate) fn is_stale(&mut self, uid: &str) -> bool {
        match self.removals.get(uid) {
            None => false,
            Some(Removal::Deleted) => true,
            Some(Removal::Unlisted) => {
                self.removals.remove(uid);
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{RETENTION, Removal, Tombstones};

    #[tokio::test(start_paused = true)]
    async fn only_what_was_deleted_stays_away() {
        let mut tombstones = Tombstones::default();
        tombstones.add("unseen", Removal::Unlisted);
        tombstones.add("deleted", Removal::Unlisted);
        tombstones.add("deleted", Removal::Deleted);
        assert!(tombstones.contains("unseen") && tombstones.contains("deleted"));
        assert!(!tombstones.is_stale("unseen") && tombstones.is_stale("deleted") && !tombstones.is_stale("other"));
        assert!(!tombstones.contains("unseen"), "it has come back");
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_remembered_for_ever() {
        let mut tombstones = Tombstones::default();
        tombstones.add("old", Removal::Deleted);
        tokio::time::sleep(RETENTION + Duration::from_secs(1)).await;
        tombstones.add("new", Removal::Deleted);
        assert!(!tombstones.contains("old") && tombstones.contains("new"));
        assert_eq!(tombstones.order.len(), 1);
    }
}
