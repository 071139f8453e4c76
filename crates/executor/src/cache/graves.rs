//! Objects that are gone, so that a late answer or event about one cannot bring it back.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

/// How long an object is remembered. Longer than any call.
const LIFE: Duration = Duration::from_secs(300);

/// How an object went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gone {
    /// Kubernetes has told us, as the answer to a call, that it is deleted.
    Deleted,
    /// A watch no longer shows it. It may be deleted, or its labels were changed, and may be changed back.
    Unseen,
}

/// What is gone, by uid.
#[derive(Debug, Default)]
pub(super) struct Graves {
    gone: HashMap<String, Gone>,
    /// In the order in which they went.
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
            // What was deleted stays so, whatever a watch shows.
            Some(known) if how == Gone::Deleted => *known = how,
            Some(_) => {}
            None => {
                self.gone.insert(uid.to_owned(), how);
                self.order.push_back((uid.to_owned(), now));
            }
        }
    }

    /// Whether an answer to a call about this object is late.
    pub fn holds(&self, uid: &str) -> bool {
        self.gone.contains_key(uid)
    }

    /// Whether a watch that shows this object is late. One that a watch has lost from sight has come back.
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
