//! The changes of listed tasks, numbered, so that a client can ask what has changed since a number.
//!
//! Only the last change of each task is kept, because the status is what counts and not the way to it. A client that
//! reads slowly or was away therefore costs nothing, and gets one status per task instead of all that it has missed.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::ops::Bound;
use std::sync::Arc;

use task::UserName;
use tokio::sync::watch;

use super::identity::TaskKey;
use super::snapshot::TaskSnapshot;
use crate::user_key::UserKey;

/// How many removals are kept. A client that has missed more reads the whole list again.
const MAX_REMOVALS: usize = 10_000;

/// A place in the changes of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChangeCursor {
    /// Random for each start of a server: the numbers of another one mean something else.
    log: u64,
    number: u64,
}

impl ChangeCursor {
    /// Reads what [`Display`](std::fmt::Display) writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (log, number) = text.split_once('-')?;
        Some(Self {
            log: u64::from_str_radix(log, 16).ok()?,
            number: number.parse().ok()?,
        })
    }
}

impl std::fmt::Display for ChangeCursor {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{:016x}-{}", self.log, self.number)
    }
}

/// A change of a task.
#[derive(Debug, Clone)]
pub enum TaskEvent {
    /// The task is new, or its status has changed.
    Changed(Arc<TaskSnapshot>),
    /// The task is no longer listed.
    Removed {
        /// Its ID.
        task_id: Box<str>,
        /// Its user.
        username: Box<str>,
    },
}

/// What has changed since a cursor.
#[derive(Debug)]
pub struct Changes {
    /// Whether the events are all tasks that there are, and what the client knew is void.
    pub is_complete: bool,
    /// The events, in their order, each with the cursor behind it.
    pub events: Vec<(ChangeCursor, TaskEvent)>,
    /// The cursor behind all changes, of these and of other tasks.
    pub cursor: ChangeCursor,
}

/// What was last told about a task.
#[derive(Debug)]
pub(super) struct Announced {
    number: u64,
    json_hash: u64,
    username: Box<str>,
}

struct Removal {
    number: u64,
    key: Arc<TaskKey>,
    username: Box<str>,
}

pub(super) struct ChangeLog {
    id: u64,
    /// The number of the last change.
    latest: watch::Sender<u64>,
    /// The listed tasks by their last change.
    changed: BTreeMap<u64, Arc<TaskKey>>,
    /// The last removals, in order.
    removed: VecDeque<Removal>,
    /// The number of the last removal that was dropped.
    dropped: u64,
}

impl Default for ChangeLog {
    fn default() -> Self {
        Self {
            id: RandomState::new().hash_one(()),
            latest: watch::Sender::new(0),
            changed: BTreeMap::new(),
            removed: VecDeque::new(),
            dropped: 0,
        }
    }
}

impl ChangeLog {
    /// Notes what is listed of a task now, and wakes the readers if it is something other than before.
    pub(super) fn note(
        &mut self,
        key: &Arc<TaskKey>,
        announced: &mut Option<Announced>,
        listed: Option<&Arc<TaskSnapshot>>,
    ) {
        let before = announced.as_ref().map(|announced| announced.json_hash);
        if before == listed.map(|snapshot| snapshot.json_hash) {
            return;
        }
        let number = *self.latest.borrow() + 1;
        let previous = announced.take();
        if let Some(previous) = &previous {
            self.changed.remove(&previous.number);
        }
        match (listed, previous) {
            (Some(snapshot), _) => {
                self.changed.insert(number, Arc::clone(key));
                *announced = Some(Announced {
                    number,
                    json_hash: snapshot.json_hash,
                    username: snapshot.username.as_str().into(),
                });
            }
            (None, Some(previous)) => self.note_removal(number, key, previous.username),
            (None, None) => {}
        }
        self.latest.send_replace(number);
    }

    fn note_removal(&mut self, number: u64, key: &Arc<TaskKey>, username: Box<str>) {
        if self.removed.len() == MAX_REMOVALS
            && let Some(oldest) = self.removed.pop_front()
        {
            self.dropped = oldest.number;
        }
        let key = Arc::clone(key);
        self.removed.push_back(Removal { number, key, username });
    }

    /// Wakes with each change of any task.
    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.latest.subscribe()
    }

    /// What has changed since `since`, or all tasks if that is not known. `snapshot` returns what is listed of a task.
    pub(super) fn since(
        &self,
        user: Option<&UserName>,
        since: Option<ChangeCursor>,
        snapshot: impl Fn(&TaskKey) -> Option<Arc<TaskSnapshot>>,
    ) -> Changes {
        let latest = *self.latest.borrow();
        let is_known = |since: &ChangeCursor| since.log == self.id && (self.dropped..=latest).contains(&since.number);
        let since = since.filter(is_known).map(|since| since.number);
        let users = user.map(|user| [UserKey::of(user), UserKey::of_python(user)]);
        let is_theirs = |key: &TaskKey| users.as_ref().is_none_or(|users| users.contains(&key.user));
        let first = Bound::Excluded(since.unwrap_or(0));
        let changed = self.changed.range((first, Bound::Unbounded));
        let changed = changed.filter(|(_, key)| is_theirs(key));
        let mut events: Vec<(u64, TaskEvent)> = changed
            .filter_map(|(number, key)| Some((*number, TaskEvent::Changed(snapshot(key)?))))
            .collect();
        if let Some(since) = since {
            let new = self.removed.partition_point(|removal| removal.number <= since);
            let removed = self.removed.range(new..).filter(|removal| is_theirs(&removal.key));
            events.extend(removed.map(|removal| {
                let (task_id, username) = (removal.key.id.clone(), removal.username.clone());
                (removal.number, TaskEvent::Removed { task_id, username })
            }));
            events.sort_by_key(|(number, _)| *number);
        }
        Changes {
            is_complete: since.is_none(),
            events: events
                .into_iter()
                .map(|(number, event)| (self.at(number), event))
                .collect(),
            cursor: self.at(latest),
        }
    }

    fn at(&self, number: u64) -> ChangeCursor {
        ChangeCursor { log: self.id, number }
    }
}

#[cfg(test)]
mod tests;
