//! Remembers deleted objects, so that a late response or event cannot bring one back.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

/// How long a deleted object is remembered: longer than any call can take.
const LIFE: Duration = Duration::from_secs(300);

/// How this process learned that an object is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gone {
    /// The response to a call confirmed the deletion.
    Deleted,
    /// A watch no longer shows the object. It may be deleted, or only its labels changed, and may change back.
    Unseen,
}

/// Deleted objects by uid.
#[derive(Debug, Default)]
pub(super) struct Graves {
    gone: HashMap<String, Gone>,
    /// The uids in order of deletion, for expiry.
    order: VecDeque<(String, Instant)>,
}

impl Graves {
    /// Remembers that an object is gone.
    pub fn bury(&mut self, uid: &str, how: Gone) {
        let now = Instant::now();
        while self
            .order
            .front()
            .is_some_and(|(_, at)| now.duration_since(*at) >= LIFE)
        {
            if let Some((oldest, _)) = self.order.pop_front() {
                self.gone.remove(&oldest);
            }
        }
        match self.gone.get_mut(uid) {
            // A confirmed deletion is final, even if a watch still shows the object.
            Some(known) if how == Gone::Deleted => *known = how,
            Some(_) => {}
            None => {
                self.gone.insert(uid.to_owned(), how);
                self.order.push_back((uid.to_owned(), now));
            }
        }
    }

    /// Whether a response about this object is too late to be applied.
    pub fn holds(&self, uid: &str) -> bool {
        self.gone.contains_key(uid)
    }

    /// Whether a watch event about this object is outdated. An object that only disappeared from a watch has come back.
    pub fn refuses(&mut self, uid: &str) -> bool {
        match self.gone.get(uid) {
            None => false,
            Some(Gone::Deleted) => true,
            Some(Gone::Unseen) => {
                self.gone.remove(uid);
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Gone, Graves, LIFE};

    #[tokio::test(start_paused = true)]
    async fn only_what_was_deleted_stays_away() {
        let mut graves = Graves::default();
        graves.bury("unseen", Gone::Unseen);
        graves.bury("deleted", Gone::Unseen);
        graves.bury("deleted", Gone::Deleted);
        assert!(graves.holds("unseen") && graves.holds("deleted"));
        assert!(!graves.refuses("unseen") && graves.refuses("deleted") && !graves.refuses("other"));
        assert!(!graves.holds("unseen"), "it has come back");
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_remembered_for_ever() {
        let mut graves = Graves::default();
        graves.bury("old", Gone::Deleted);
        tokio::time::sleep(LIFE + Duration::from_secs(1)).await;
        graves.bury("new", Gone::Deleted);
        assert!(!graves.holds("old") && graves.holds("new"));
        assert_eq!(graves.order.len(), 1);
    }
}
