//! How much users have stored, and whether they may store more.

use std::collections::HashMap;

use super::paths::UserPrefix;
use crate::error::Error;

/// What an object takes at least on a disk. Many tiny files must not count as little.
const BLOCK: u64 = 4096;

/// The number of bytes for which an object counts.
pub(super) fn counted(size: u64) -> u64 {
    size.max(1).checked_next_multiple_of(BLOCK).unwrap_or(u64::MAX)
}

/// How much is stored, as far as this server knows, in bytes.
#[derive(Debug)]
pub(super) struct Usage {
    max_user_bytes: u64,
    max_bytes: u64,
    users: HashMap<UserPrefix, u64>,
    total: u64,
    /// All that was ever written, for those who list what is stored meanwhile.
    written: HashMap<UserPrefix, u64>,
    written_total: u64,
}

/// What had been written when a list began.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark(u64);

impl Usage {
    pub(super) fn new(max_user_bytes: u64, max_bytes: u64) -> Self {
        Self {
            max_user_bytes,
            max_bytes,
            users: HashMap::new(),
            total: 0,
            written: HashMap::new(),
            written_total: 0,
        }
    }

    pub(super) fn limit_total(&mut self, max_bytes: u64) {
        self.max_bytes = max_bytes;
    }

    pub(super) fn knows(&self, user: &UserPrefix) -> bool {
        self.users.contains_key(user)
    }

    /// Counts bytes that are about to be written. Those of writes that fail count, too, until the next list.
    pub(super) fn add(&mut self, user: &UserPrefix, more: u64) -> Result<(), Error> {
        self.check(user, more)?;
        *self.users.entry(user.clone()).or_default() += more;
        *self.written.entry(user.clone()).or_default() += more;
        self.total = self.total.saturating_add(more);
        self.written_total += more;
        Ok(())
    }

    /// Whether a user may store more.
    pub(super) fn check(&self, user: &UserPrefix, more: u64) -> Result<(), Error> {
        let stored = self.users.get(user).copied().unwrap_or_default();
        let limit = self.max_user_bytes;
        if stored.saturating_add(more) > limit {
            return Err(Error::TooManyFiles { stored, more, limit });
        }
        if self.total.saturating_add(more) > self.max_bytes {
            let limit = self.max_bytes;
            return Err(Error::FilesFull { limit });
        }
        Ok(())
    }

    /// Call this before a list of what a user has stored.
    pub(super) fn mark(&self, user: &UserPrefix) -> Mark {
        Mark(self.written.get(user).copied().unwrap_or_default())
    }

    /// Takes what a list found in place of what was counted. What was written meanwhile may be missing in the list.
    pub(super) fn listed(&mut self, user: &UserPrefix, bytes: u64, before: Mark) {
        let meanwhile = self.mark(user).0.saturating_sub(before.0);
        let bytes = bytes.saturating_add(meanwhile);
        let known = self.users.insert(user.clone(), bytes).unwrap_or_default();
        self.total = self.total.saturating_sub(known).saturating_add(bytes);
    }

    /// Call this before a list of what all users have stored.
    pub(super) fn mark_all(&self) -> Mark {
        Mark(self.written_total)
    }

    /// Takes what a list of everything found. The next manifest of a user counts their files again.
    pub(super) fn listed_all(&mut self, bytes: u64, before: Mark) {
        self.total = bytes.saturating_add(self.written_total.saturating_sub(before.0));
        self.users.clear();
        self.written.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::super::paths::UserPrefix;
    use super::{Usage, counted};
    use crate::error::Error;

    #[test]
    fn tiny_objects_count_as_what_they_take_on_a_disk() {
        assert_eq!([0, 1, 4096, 4097].map(counted), [4096, 4096, 4096, 8192]);
        assert_eq!(counted(u64::MAX), u64::MAX);
    }

    #[test]
    fn what_is_written_during_a_list_counts() {
        let mut usage = Usage::new(100, 1000);
        let user = UserPrefix::of("alice");
        let before = usage.mark(&user);
        usage.add(&user, 40).unwrap();
        usage.listed(&user, 50, before);
        assert!(matches!(
            usage.add(&user, 20),
            Err(Error::TooManyFiles { stored: 90, .. })
        ));
        usage.add(&user, 10).unwrap();
    }

    #[test]
    fn all_users_share_the_limit_of_the_store() {
        let mut usage = Usage::new(100, 150);
        let [alice, bob] = ["alice", "bob"].map(UserPrefix::of);
        usage.add(&alice, 100).unwrap();
        assert!(matches!(usage.add(&bob, 60), Err(Error::FilesFull { limit: 150 })));
        usage.add(&bob, 50).unwrap();
        let before = usage.mark_all();
        usage.listed_all(20, before);
        usage.add(&bob, 60).unwrap();
    }
}
