//! How much users have stored, and whether they may store more.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::paths::{Stored, UserPrefix};
use crate::error::Error;

/// What an object takes at least on a disk. Many tiny files must not count as little.
const BLOCK: u64 = 4096;

/// The number of bytes for which an object counts.
pub(super) fn counted(size: u64) -> u64 {
    size.max(1).checked_next_multiple_of(BLOCK).unwrap_or(u64::MAX)
}

/// Objects of a user, and for how many bytes they count.
pub(super) type Objects = HashMap<Stored, u64>;

/// How much is stored, as far as this server knows, in bytes.
#[derive(Debug)]
pub(super) struct Usage {
    max_user_bytes: u64,
    max_bytes: u64,
    users: HashMap<UserPrefix, Known>,
    /// What is being written, and what was written since its user was last listed. It counts once, however many uploads
    /// of the same folder there are at the same time.
    writes: HashMap<UserPrefix, HashMap<Stored, Write>>,
    total: u64,
    /// All that was ever written, for those who list everything meanwhile.
    written_total: u64,
    /// How many lists have begun.
    lists: u64,
}

/// What a user has stored.
#[derive(Debug)]
struct Known {
    bytes: u64,
    /// The last list that this is from.
    list: List,
}

/// An object that was counted when it was about to be written.
#[derive(Debug)]
struct Write {
    bytes: u64,
    /// How many are writing it.
    writers: usize,
    /// How many lists had begun when it was last written.
    ended: u64,
}

impl Write {
    /// Whether a list may have missed it, because it was not written when the list began.
    fn is_later_than(&self, list: List) -> bool {
        self.writers > 0 || self.ended >= list.0
    }
}

/// A list of what is stored, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct List(u64);

/// What had been written when a list of everything began.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    list: List,
    ended: u64,
}

/// Objects that are being written, until this is dropped. Those of writes that fail count, too, until the next list.
#[derive(Debug)]
pub(super) struct Writing {
    usage: Arc<Mutex<Usage>>,
    user: UserPrefix,
    objects: Vec<Stored>,
}

impl Writing {
    /// Counts objects that are about to be written, except those that a list has found.
    pub(super) fn begin(
        usage: &Arc<Mutex<Usage>>,
        user: &UserPrefix,
        objects: &Objects,
        is_stored: impl Fn(&Stored) -> bool,
    ) -> Result<Self, Error> {
        let mut counting = usage.lock().unwrap_or_else(PoisonError::into_inner);
        counting.begin(user, objects, is_stored)?;
        Ok(Self {
            usage: Arc::clone(usage),
            user: user.clone(),
            objects: objects.keys().cloned().collect(),
        })
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        let mut usage = self.usage.lock().unwrap_or_else(PoisonError::into_inner);
        usage.end(&self.user, &self.objects);
    }
}

impl Usage {
    pub(super) fn new(max_user_bytes: u64, max_bytes: u64) -> Self {
        Self {
            max_user_bytes,
            max_bytes,
            users: HashMap::new(),
            writes: HashMap::new(),
            total: 0,
            written_total: 0,
            lists: 0,
        }
    }

    pub(super) fn limit_total(&mut self, max_bytes: u64) {
        self.max_bytes = max_bytes;
    }

    pub(super) fn knows(&self, user: &UserPrefix) -> bool {
        self.users.contains_key(user)
    }

    fn begin(
        &mut self,
        user: &UserPrefix,
        objects: &Objects,
        is_stored: impl Fn(&Stored) -> bool,
    ) -> Result<(), Error> {
        let more = self.check(user, objects, is_stored)?;
        let list = List(self.lists);
        let known = self.users.entry(user.clone()).or_insert(Known { bytes: 0, list });
        known.bytes = known.bytes.saturating_add(more);
        self.total = self.total.saturating_add(more);
        self.written_total = self.written_total.saturating_add(more);
        let writes = self.writes.entry(user.clone()).or_default();
        for (object, bytes) in objects {
            let write = writes.entry(object.clone()).or_insert(Write {
                bytes: *bytes,
                writers: 0,
                ended: 0,
            });
            write.writers += 1;
        }
        Ok(())
    }

    fn end(&mut self, user: &UserPrefix, objects: &[Stored]) {
        let Some(writes) = self.writes.get_mut(user) else {
            return;
        };
        for object in objects {
            if let Some(write) = writes.get_mut(object) {
                write.writers = write.writers.saturating_sub(1);
                write.ended = self.lists;
            }
        }
    }

    /// Whether a user may store these objects, too. Returns how many bytes they are more than what is there or on its way.
    pub(super) fn check(
        &self,
        user: &UserPrefix,
        objects: &Objects,
        is_stored: impl Fn(&Stored) -> bool,
    ) -> Result<u64, Error> {
        let writes = self.writes.get(user);
        let is_counted =
            |object: &Stored| writes.is_some_and(|writes| writes.contains_key(object)) || is_stored(object);
        let new = objects.iter().filter(|(object, _)| !is_counted(object));
        let more = new.fold(0, |sum: u64, (_, bytes)| sum.saturating_add(*bytes));
        if more == 0 {
            return Ok(0);
        }
        let stored = self.users.get(user).map_or(0, |known| known.bytes);
        let limit = self.max_user_bytes;
        if stored.saturating_add(more) > limit {
            return Err(Error::TooManyFiles { stored, more, limit });
        }
        if self.total.saturating_add(more) > self.max_bytes {
            let limit = self.max_bytes;
            return Err(Error::FilesFull { limit });
        }
        Ok(more)
    }

    /// Call this before a list of what a user has stored.
    pub(super) fn begin_list(&mut self) -> List {
        self.lists += 1;
        List(self.lists)
    }

    /// Takes what a list found in place of what was counted, and adds what it has missed.
    pub(super) fn listed(&mut self, user: &UserPrefix, bytes: u64, list: List, is_listed: impl Fn(&Stored) -> bool) {
        // A list that began later has ended before, and has forgotten what this one may have missed.
        if self.users.get(user).is_some_and(|known| known.list > list) {
            return;
        }
        let writes = self.writes.entry(user.clone()).or_default();
        writes.retain(|_, write| write.is_later_than(list));
        let missed = writes.iter().filter(|(object, _)| !is_listed(object));
        let bytes = missed.fold(bytes, |sum, (_, write)| sum.saturating_add(write.bytes));
        if writes.is_empty() {
            self.writes.remove(user);
        }
        let known = self.users.insert(user.clone(), Known { bytes, list });
        let before = known.map_or(0, |known| known.bytes);
        self.total = self.total.saturating_sub(before).saturating_add(bytes);
    }

    /// Call this before a list of what all users have stored.
    pub(super) fn mark_all(&mut self) -> Mark {
        let writes = self.writes.values().flat_map(HashMap::values);
        let on_the_way = writes.filter(|write| write.writers > 0).map(|write| write.bytes);
        Mark {
            ended: self.written_total.saturating_sub(on_the_way.sum()),
            list: self.begin_list(),
        }
    }

    /// Takes what a list of everything found. The next request of a user counts their files again.
    pub(super) fn listed_all(&mut self, bytes: u64, before: Mark) {
        self.total = bytes.saturating_add(self.written_total.saturating_sub(before.ended));
        self.users.clear();
        self.writes.retain(|_, writes| {
            writes.retain(|_, write| write.is_later_than(before.list));
            !writes.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use files::ContentHash;

    use super::super::paths::{Stored, UserPrefix};
    use super::{Objects, Usage, Writing, counted};
    use crate::error::Error;

    fn content(name: &str) -> Stored {
        Stored::Content(ContentHash::of(name.as_bytes()))
    }

    fn object(name: &str, bytes: u64) -> Objects {
        Objects::from([(content(name), bytes)])
    }

    /// Writes an object, and ends it.
    fn write(usage: &mut Usage, user: &UserPrefix, name: &str, bytes: u64) -> Result<(), Error> {
        let objects = object(name, bytes);
        usage.begin(user, &objects, |_| false)?;
        usage.end(user, &[content(name)]);
        Ok(())
    }

    #[test]
    fn tiny_objects_count_as_what_they_take_on_a_disk() {
        assert_eq!([0, 1, 4096, 4097].map(counted), [4096, 4096, 4096, 8192]);
        assert_eq!(counted(u64::MAX), u64::MAX);
    }

    #[test]
    fn what_is_written_during_a_list_counts() {
        let mut usage = Usage::new(100, 1000);
        let user = UserPrefix::of("alice");
        usage.begin(&user, &object("on its way", 10), |_| false).unwrap();
        let list = usage.begin_list();
        write(&mut usage, &user, "listed", 20).unwrap();
        write(&mut usage, &user, "missed", 30).unwrap();
        usage.listed(&user, 40, list, |object| *object == content("listed"));
        let more = write(&mut usage, &user, "more", 30);
        assert!(matches!(more, Err(Error::TooManyFiles { stored: 80, .. })), "{more:?}");
        write(&mut usage, &user, "more", 20).unwrap();
        // A list that began earlier knows less.
        let (early, late) = (usage.begin_list(), usage.begin_list());
        usage.listed(&user, 100, late, |_| true);
        usage.listed(&user, 0, early, |_| true);
        assert!(write(&mut usage, &user, "other", 1).is_err());
    }

    #[test]
    fn what_two_write_at_the_same_time_counts_once() {
        let usage = Arc::new(Mutex::new(Usage::new(100, 1000)));
        let user = UserPrefix::of("alice");
        let begin = |name, is_stored: bool| Writing::begin(&usage, &user, &object(name, 60), |_| is_stored);
        let first = begin("same", false).unwrap();
        let second = begin("same", false).unwrap();
        assert!(begin("other", false).is_err());
        drop((first, second));
        drop(begin("same", false).unwrap());
        // What a list has found does not count again either.
        let list = usage.lock().unwrap().begin_list();
        usage.lock().unwrap().listed(&user, 60, list, |_| true);
        assert!(begin("same", false).is_err());
        begin("same", true).unwrap();
    }

    #[test]
    fn all_users_share_the_limit_of_the_store() {
        let mut usage = Usage::new(100, 150);
        let [alice, bob] = ["alice", "bob"].map(UserPrefix::of);
        write(&mut usage, &alice, "one", 100).unwrap();
        let more = write(&mut usage, &bob, "two", 60);
        assert!(matches!(more, Err(Error::FilesFull { limit: 150 })));
        usage.begin(&bob, &object("two", 50), |_| false).unwrap();
        // What is on its way when the list begins may not be in it.
        let before = usage.mark_all();
        usage.listed_all(20, before);
        assert!(write(&mut usage, &alice, "three", 81).is_err());
        write(&mut usage, &alice, "three", 80).unwrap();
    }
}
