//! Which records and logs to delete: those that are too old, and the oldest logs if there are too many bytes.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::key::RecordKey;
use crate::space::Limits;

/// The share of a limit that is freed beyond it, as a divisor, so that not every frame deletes something.
const SLACK_SHARE: u64 = 20;

/// What must not be deleted.
#[derive(Debug, Default)]
pub struct InUse {
    /// The tasks whose logs may still be written to, and their users. Their logs are kept.
    pub written: HashMap<RecordKey, Arc<str>>,
    /// The tasks that still exist. Their records are kept, or else they would be archived again.
    pub existing: HashSet<RecordKey>,
}

/// What the archive contains.
#[derive(Debug, Default)]
pub(crate) struct Content {
    /// The logs of each task.
    pub logs: BTreeMap<RecordKey, TaskLogs>,
    /// The records, and when they were written.
    pub records: BTreeMap<RecordKey, Timestamp>,
}

/// The logs of a task.
#[derive(Debug, Clone, Default)]
pub(crate) struct TaskLogs {
    /// Their size, in bytes.
    pub size: u64,
    /// Who submitted the task, if that is known and there is a limit per user.
    pub user: Option<Arc<str>>,
    /// Whether they are still written to. They are kept.
    pub is_live: bool,
    /// When the last part was written; `None` if that is not known.
    pub written_at: Option<Timestamp>,
}

/// What to delete.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Deletions {
    pub logs: Vec<RecordKey>,
    pub records: Vec<RecordKey>,
    /// The size of the logs that are deleted because they are old, because of the limit per user, and because of the
    /// limit of all.
    pub bytes: [u64; 3],
    /// The size of the logs that stay.
    pub bytes_left: u64,
    pub bytes_left_of: HashMap<Arc<str>, u64>,
}

/// Decides what to delete.
pub(crate) fn decide(
    content: &Content,
    limits: Limits,
    is_full: bool,
    now: Timestamp,
    existing: &HashSet<RecordKey>,
) -> Deletions {
    let max_age = limits.max_age.and_then(|age| SignedDuration::try_from(age).ok());
    let oldest = max_age.and_then(|age| now.checked_sub(age).ok());
    // Keys sort by the time of submission.
    let first_kept = oldest.map(RecordKey::first_after);
    // The last object of a task is written when it ends, which may be weeks after its submission.
    let is_recent =
        |written_at: Option<&Timestamp>| written_at.is_some_and(|time| oldest.is_some_and(|old| *time >= old));
    let is_old = |key: &RecordKey| {
        let logs = content.logs.get(key).and_then(|logs| logs.written_at.as_ref());
        let was_submitted = first_kept.as_deref().is_some_and(|first| key.as_str() < first);
        was_submitted && !is_recent(logs) && !is_recent(content.records.get(key))
    };
    let mut left = Left::of(content);
    let old = left.take(|key, _, _| is_old(key));
    let goals = limits
        .max_user_bytes
        .map_or_else(HashMap::new, |max| left.user_goals(max));
    let of_users = left.take(|_, logs, left| {
        let user = logs
            .user
            .as_ref()
            .and_then(|user| Some((goals.get(user)?, left.by_user.get(user)?)));
        user.is_some_and(|(goal, size)| size > goal)
    });
    let total = left.total;
    let goal = match limits.max_bytes {
        Some(max) if is_full || total > max => max.min(total) - max.min(total) / SLACK_SHARE,
        None if is_full => total - total / SLACK_SHARE,
        Some(_) | None => u64::MAX,
    };
    let of_all = left.take(|_, _, left| left.total > goal);
    let size = |keys: &[RecordKey]| keys.iter().map(|key| content.logs[key].size).sum();
    let old_records = content.records.keys();
    let old_records = old_records.filter(|key| is_old(key) && !existing.contains(key));
    Deletions {
        bytes: [size(&old), size(&of_users), size(&of_all)],
        logs: [old, of_users, of_all].concat(),
        records: old_records.cloned().collect(),
        bytes_left: left.total,
        bytes_left_of: left.by_user,
    }
}

/// The logs that are not deleted yet.
struct Left<'a> {
    logs: BTreeMap<&'a RecordKey, &'a TaskLogs>,
    total: u64,
    by_user: HashMap<Arc<str>, u64>,
}

impl<'a> Left<'a> {
    fn of(content: &'a Content) -> Self {
        let mut by_user: HashMap<Arc<str>, u64> = HashMap::new();
        for logs in content.logs.values() {
            if let Some(user) = &logs.user {
                *by_user.entry(Arc::clone(user)).or_default() += logs.size;
            }
        }
        Self {
            logs: content.logs.iter().collect(),
            total: content.logs.values().map(|logs| logs.size).sum(),
            by_user,
        }
    }

    /// How much may be left of the logs of each user who has reached the limit.
    fn user_goals(&self, max: u64) -> HashMap<Arc<str>, u64> {
        let full = self.by_user.iter().filter(|(_, size)| **size >= max);
        full.map(|(user, _)| (Arc::clone(user), max - max / SLACK_SHARE))
            .collect()
    }

    /// Takes those that `is_needed`, except the logs of live tasks; the oldest first.
    fn take(&mut self, is_needed: impl Fn(&RecordKey, &TaskLogs, &Self) -> bool) -> Vec<RecordKey> {
        let mut taken = Vec::new();
        for (key, logs) in self.logs.clone() {
            if logs.is_live || !is_needed(key, logs, self) {
                continue;
            }
            self.logs.remove(key);
            self.total -= logs.size;
            if let Some(size) = logs.user.as_ref().and_then(|user| self.by_user.get_mut(user)) {
                *size -= logs.size;
            }
            taken.push(key.clone());
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::Arc;
    use std::time::Duration;

    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::{Content, Limits, RecordKey, TaskLogs, decide};

    const DAY: i64 = 86_400;

    fn key(day: i64) -> RecordKey {
        RecordKey::new(time(day), "abcd1234", "0")
    }

    fn time(day: i64) -> Timestamp {
        Timestamp::from_second(1_795_000_000 + day * DAY).unwrap()
    }

    /// The logs of one task a day, of which those of `live` are still written to.
    fn content(sizes: &[u64], live: i64) -> Content {
        let logs = |(day, size): (i64, &u64)| {
            let logs = TaskLogs {
                size: *size,
                user: None,
                is_live: day == live,
                written_at: Some(time(day)),
            };
            (key(day), logs)
        };
        Content {
            logs: (0..).zip(sizes).map(logs).collect(),
            records: (0..).map(|day| (key(day), time(day))).take(sizes.len()).collect(),
        }
    }

    #[test]
    fn what_is_too_old_goes_with_its_record() {
        let limits = Limits {
            max_age: Some(Duration::from_secs(2 * 86_400)),
            ..Limits::default()
        };
        let content = content(&[1, 2, 4, 8], 0);
        let deletions = decide(&content, limits, false, time(4), &HashSet::from([key(0)]));
        assert_eq!((deletions.logs, deletions.records), (vec![key(1)], vec![key(1)]));
        assert_eq!((deletions.bytes, deletions.bytes_left), ([2, 0, 0], 13));
    }

    #[test]
    fn a_task_that_ran_for_long_ages_from_its_end() {
        let limits = Limits {
            max_age: Some(Duration::from_secs(2 * 86_400)),
            ..Limits::default()
        };
        let mut content = content(&[1, 2, 4, 8], -1);
        content.logs.get_mut(&key(0)).unwrap().written_at = Some(time(3));
        content.records.insert(key(1), time(3));
        let decide = |now| decide(&content, limits, false, time(now), &HashSet::new());
        assert_eq!((decide(4).logs, decide(4).records), (vec![], vec![]));
        assert_eq!((decide(6).logs.len(), decide(6).records.len()), (4, 4));
    }

    #[test]
    fn a_user_at_the_limit_loses_the_oldest_logs_and_nobody_else_does() {
        let mut content = content(&[60, 60, 60, 60, 60], -1);
        for (logs, user) in content.logs.values_mut().zip(["bob", "alice", "alice", "bob", "alice"]) {
            logs.user = Some(Arc::from(user));
        }
        let limits = Limits {
            max_user_bytes: Some(140),
            ..Limits::default()
        };
        let deletions = decide(&content, limits, false, time(9), &HashSet::new());
        assert_eq!((deletions.logs, deletions.bytes), (vec![key(1)], [0, 60, 0]));
        assert_eq!(deletions.bytes_left_of["alice"], 120);
        // What is deleted for a user makes room for all.
        let limits = Limits {
            max_bytes: Some(260),
            ..limits
        };
        let deletions = decide(&content, limits, false, time(9), &HashSet::new());
        assert_eq!(deletions.logs, vec![key(1)]);
        // The logs of live tasks are kept, no matter who submitted them.
        content.logs.get_mut(&key(1)).unwrap().is_live = true;
        let deletions = decide(&content, limits, false, time(9), &HashSet::new());
        assert_eq!(deletions.logs, vec![key(2)]);
    }

    proptest! {
        /// And nothing is deleted that need not be.
        #[test]
        fn the_oldest_logs_go_until_the_rest_fits(
            sizes in prop::collection::vec(1_u64..100, 0..20),
            max in 0_u64..1000,
            is_full: bool,
            live in any::<prop::sample::Index>(),
        ) {
            let day = i64::try_from(live.index(21)).unwrap();
            let (content, live) = (content(&sizes, day), key(day));
            let limits = Limits { max_bytes: Some(max), ..Limits::default() };
            let deletions = decide(&content, limits, is_full, time(30), &HashSet::from([live.clone()]));
            let total: u64 = sizes.iter().sum();
            prop_assert!(deletions.records.is_empty());
            prop_assert!(!deletions.logs.contains(&live));
            let live_size = content.logs.get(&live).map_or(0, |logs| logs.size);
            prop_assert!(deletions.bytes_left <= max.max(live_size));
            if total <= max && !is_full {
                prop_assert_eq!(deletions.bytes_left, total);
            }
            let deleted: Vec<_> = content.logs.keys().filter(|key| **key != live).take(deletions.logs.len()).cloned().collect();
            prop_assert_eq!(deletions.logs, deleted);
        }
    }
}
