//! Which records and logs to delete: those that are too old, and the oldest logs if there are too many bytes.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use crate::key::RecordKey;
use crate::space::Limits;

/// The share of the limit that is freed beyond it, as a divisor, so that not every frame deletes something.
const SLACK_SHARE: u64 = 20;

/// What the archive contains.
#[derive(Debug, Default)]
pub(crate) struct Content {
    /// The size of the logs of each task, in bytes.
    pub logs: BTreeMap<RecordKey, u64>,
    pub records: BTreeSet<RecordKey>,
}

/// What to delete.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Deletions {
    pub logs: Vec<RecordKey>,
    pub records: Vec<RecordKey>,
    /// The size of the logs that stay.
    pub bytes_left: u64,
}

/// Decides what to delete. The logs of tasks that are live are kept: they are still written to.
pub(crate) fn decide(
    content: &Content,
    limits: Limits,
    is_full: bool,
    now: Timestamp,
    is_live: impl Fn(&RecordKey) -> bool,
) -> Deletions {
    let max_age = limits.max_age.and_then(|age| SignedDuration::try_from(age).ok());
    // Keys sort by the time of submission.
    let first_kept = max_age
        .and_then(|age| now.checked_sub(age).ok())
        .map(RecordKey::first_after);
    let is_old = |key: &RecordKey| first_kept.as_deref().is_some_and(|first| key.as_str() < first);
    let total: u64 = content.logs.values().sum();
    let mut deletions = Deletions {
        bytes_left: total,
        ..Deletions::default()
    };
    let goal = match limits.max_bytes {
        Some(max) if is_full || total > max => max.min(total) - max.min(total) / SLACK_SHARE,
        None if is_full => total - total / SLACK_SHARE,
        Some(_) | None => u64::MAX,
    };
    for (key, size) in &content.logs {
        // What is not live and has no record belonged to a task that nobody saw end.
        let is_needed = deletions.bytes_left > goal && (content.records.contains(key) || !is_live(key));
        if !is_live(key) && (is_old(key) || is_needed) {
            deletions.logs.push(key.clone());
            deletions.bytes_left -= size;
        }
    }
    let old = content.records.iter().filter(|key| is_old(key) && !is_live(key));
    deletions.records = old.cloned().collect();
    deletions
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::{Content, Limits, RecordKey, decide};

    const DAY: i64 = 86_400;

    fn key(day: i64) -> RecordKey {
        RecordKey::new(time(day), "abcd1234", "0")
    }

    fn time(day: i64) -> Timestamp {
        Timestamp::from_second(1_795_000_000 + day * DAY).unwrap()
    }

    fn content(sizes: &[u64]) -> Content {
        let keys = || (0..).map(key);
        Content {
            logs: keys().zip(sizes.iter().copied()).collect(),
            records: keys().take(sizes.len()).collect(),
        }
    }

    #[test]
    fn what_is_too_old_goes_with_its_record() {
        let limits = Limits {
            max_age: Some(Duration::from_secs(2 * 86_400)),
            max_bytes: None,
        };
        let deletions = decide(&content(&[1, 2, 4, 8]), limits, false, time(4), |key| {
            *key == self::key(0)
        });
        assert_eq!((deletions.logs, deletions.records), (vec![key(1)], vec![key(1)]));
        assert_eq!(deletions.bytes_left, 13);
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
            let content = content(&sizes);
            let live = key(i64::try_from(live.index(21)).unwrap());
            let limits = Limits { max_age: None, max_bytes: Some(max) };
            let deletions = decide(&content, limits, is_full, time(30), |key| *key == live);
            let total: u64 = sizes.iter().sum();
            prop_assert!(deletions.records.is_empty());
            prop_assert!(!deletions.logs.contains(&live));
            let live_size = content.logs.get(&live).copied().unwrap_or(0);
            prop_assert!(deletions.bytes_left <= max.max(live_size));
            if total <= max && !is_full {
                prop_assert_eq!(deletions.bytes_left, total);
            }
            let deleted: Vec<_> = content.logs.keys().filter(|key| **key != live).take(deletions.logs.len()).cloned().collect();
            prop_assert_eq!(deletions.logs, deleted);
        }
    }
}
