//! Past and present tasks together: those in Kubernetes, and those in the archive.

use std::collections::BTreeMap;
use std::sync::Arc;

use archive::{Archive, HistoryFilter, RecordKey};
use bytes::Bytes;
use futures::Stream;
use jiff::Timestamp;
use task::record::{HistoryEntry, HistoryPage, TaskRecord};
use task::wire::TaskStatus;
use task::{TaskState, UserName};

use crate::archiving::{Archiver, final_record, live_record};
use crate::cache::{Cache, TaskKey, TaskSnapshot};
use crate::error::Error;
use crate::logs::{LogOptions, LogStreams, LogTruncated};
use crate::record_key::record_key;
use crate::user_key::UserKey;

/// Where tasks are found.
pub(crate) struct Sources<'a> {
    pub cache: &'a Cache,
    /// Those that are gone and not in the archive yet.
    pub archiver: Option<&'a Archiver>,
    pub archive: Option<&'a Archive>,
    pub now: Timestamp,
}

impl Sources<'_> {
    /// The tasks that are in Kubernetes, or are gone and not in the archive yet, and that `is_wanted` accepts.
    pub(crate) fn present(&self, is_wanted: impl Fn(&TaskSnapshot) -> bool) -> Vec<Arc<TaskSnapshot>> {
        let live = self.cache.tasks(None).into_iter().map(|(_, snapshot)| snapshot);
        let ending = self.archiver.map(Archiver::ending).unwrap_or_default();
        live.chain(ending).filter(|snapshot| is_wanted(snapshot)).collect()
    }

    /// The tasks that are gone and not in the archive yet and that `is_wanted` accepts, with their records as they will
    /// be.
    fn ending(&self, is_wanted: impl Fn(&TaskSnapshot) -> bool) -> Vec<(Arc<TaskSnapshot>, TaskRecord)> {
        let mut ending = self.archiver.map(Archiver::ending).unwrap_or_default();
        ending.retain(|snapshot| is_wanted(snapshot));
        let record = |snapshot: Arc<TaskSnapshot>| {
            let record = final_record(&snapshot, self.now, Vec::new())?;
            // Its processes may still be ending.
            let record = TaskRecord { end: None, ..record };
            Some((snapshot, record))
        };
        ending.into_iter().filter_map(record).collect()
    }

    /// The same for a task of this user.
    fn find_ending(&self, user: &UserName, id: &str) -> Option<(Arc<TaskSnapshot>, TaskRecord)> {
        let is_it = |snapshot: &TaskSnapshot| *snapshot.key.id == *id && snapshot.username == user.as_str();
        self.ending(is_it).pop()
    }
}

/// The newest tasks that match.
pub(crate) async fn page(sources: &Sources<'_>, filter: HistoryFilter) -> Result<HistoryPage, Error> {
    let limit = filter.limit.max(1);
    // One more shows whether there is another page.
    let filter = HistoryFilter {
        limit: limit + 1,
        ..filter
    };
    let mut entries = live_entries(sources.cache, &filter);
    let is_user = |snapshot: &TaskSnapshot| filter.user.as_ref().is_none_or(|user| *user == snapshot.username);
    for (snapshot, record) in sources.ending(is_user) {
        let key = record_key(&snapshot).as_str().to_owned();
        if matches_key(&snapshot, record.task.status, &key, &filter) && matches_text(&record.task, &filter) {
            entries.insert(key, HistoryEntry::of(&record.task, false));
        }
    }
    if let Some(archive) = sources.archive {
        for (key, entry) in archive.records(filter).await? {
            // A task that has ended may be in both.
            if let std::collections::btree_map::Entry::Vacant(place) = entries.entry(key) {
                let entry = serde_json::from_str(&entry).map_err(|source| Error::Encoding { source })?;
                place.insert(entry);
            }
        }
    }
    let has_more = entries.len() > limit;
    let newest: Vec<(String, HistoryEntry)> = entries.into_iter().rev().take(limit).collect();
    let last = newest.last().map(|(key, _)| key.clone());
    Ok(HistoryPage {
        next_cursor: last.filter(|_| has_more),
        tasks: newest.into_iter().map(|(_, entry)| entry).collect(),
    })
}

/// The newest tasks in Kubernetes that match, by key; at most as many as the limit.
fn live_entries(cache: &Cache, filter: &HistoryFilter) -> BTreeMap<String, HistoryEntry> {
    let user = filter.user.as_deref().map(UserName::parse);
    let Ok(user) = user.transpose() else {
        return BTreeMap::new();
    };
    let mut found = BTreeMap::new();
    // The list is sorted by the time of submission, as keys are.
    for (_, snapshot) in cache.tasks(user.as_ref()).into_iter().rev() {
        if found.len() >= filter.limit {
            break;
        }
        let key = record_key(&snapshot).as_str().to_owned();
        let is_named = |pattern: &String| archive::matches_glob(pattern, &snapshot.name);
        if !matches_key(&snapshot, snapshot.state, &key, filter) || !filter.name.as_ref().is_none_or(is_named) {
            continue;
        }
        let Ok(status) = serde_json::from_slice::<TaskStatus>(&snapshot.json) else {
            continue;
        };
        if matches_text(&status, filter) {
            found.insert(key, HistoryEntry::of(&status, true));
        }
    }
    found
}

fn matches_key(snapshot: &TaskSnapshot, state: TaskState, key: &str, filter: &HistoryFilter) -> bool {
    let is_state = filter.states.is_empty() || filter.states.contains(&state);
    let is_after = filter.cursor.as_ref().is_none_or(|cursor| key < cursor.as_str());
    let is_since = filter.since.is_none_or(|since| snapshot.created_at >= since);
    let is_until = filter.until.is_none_or(|until| snapshot.created_at < until);
    is_state && is_after && is_since && is_until
}

fn matches_text(status: &TaskStatus, filter: &HistoryFilter) -> bool {
    let is_name = filter
        .name
        .as_ref()
        .is_none_or(|pattern| archive::matches_glob(pattern, &status.name));
    let has_text = filter.text.as_ref().is_none_or(|text| {
        let message = status.message.as_deref().unwrap_or_default();
        format!("{}\n{message}", status.name)
            .to_lowercase()
            .contains(&text.to_lowercase())
    });
    is_name && has_text
}

/// What is known about a task: its record, if it was written, or else what Kubernetes has or had.
pub(crate) async fn record(
    sources: &Sources<'_>,
    live: Option<&TaskSnapshot>,
    user: &UserName,
    id: &str,
) -> Result<Option<TaskRecord>, Error> {
    let ending = sources.find_ending(user, id).filter(|_| live.is_none());
    let key = match ending.is_some() {
        true => None,
        false => key(sources, live, user, id).await?,
    };
    let archived = match (key, sources.archive) {
        (Some(key), Some(archive)) => archive.record(&key).await?,
        _ => None,
    };
    let known = || live.and_then(|live| live_record(live, sources.now));
    Ok(archived.or_else(known).or_else(|| ending.map(|(_, record)| record)))
}

/// The name of a task in the archive; `None` if there is no task of this user with this ID.
pub(crate) async fn key(
    sources: &Sources<'_>,
    live: Option<&TaskSnapshot>,
    user: &UserName,
    id: &str,
) -> Result<Option<RecordKey>, Error> {
    if let Some(live) = live {
        return Ok(Some(record_key(live)));
    }
    if let Some((ending, _)) = sources.find_ending(user, id) {
        return Ok(Some(record_key(&ending)));
    }
    match sources.archive {
        Some(archive) => Ok(archive.find_record(user.as_str(), id).await?),
        None => Ok(None),
    }
}

/// The log of a task that is gone.
pub struct ArchivedLog<Text> {
    /// The text.
    pub text: Text,
    /// Whether the log was written to its end, so that it does not change anymore.
    pub is_complete: bool,
}

/// The log of a task that is gone.
pub(crate) async fn logs(
    sources: &Sources<'_>,
    streams: &LogStreams,
    user: &UserName,
    id: &str,
    options: &LogOptions,
) -> Result<Option<ArchivedLog<impl Stream<Item = Result<Bytes, LogTruncated>> + Send + use<>>>, Error> {
    let Some(archive) = sources.archive else {
        return Ok(None);
    };
    let (key, num_nodes, is_written) = match sources.find_ending(user, id) {
        Some((snapshot, _)) => {
            if let Some(archiver) = sources.archiver {
                match options.follow {
                    true => archiver.wait_for_archived(&snapshot.key).await,
                    // What was read before the task went is in the memory of the archiver.
                    false => archiver.wait_for_written(&snapshot.key).await,
                }
            }
            (record_key(&snapshot), snapshot.num_nodes, false)
        }
        None => {
            let Some(key) = archive.find_record(user.as_str(), id).await? else {
                return Ok(None);
            };
            let Some(record) = archive.record(&key).await? else {
                return Ok(None);
            };
            // A record is written after the ends of its logs.
            (key, record.task.metadata.num_nodes, !record.logs.is_empty())
        }
    };
    let logs = archive.logs_of(&key).await?;
    if is_written && logs.is_empty() {
        return Err(Error::LogDeleted { id: id.to_owned() });
    }
    let task = (absent_task(user, &key), key);
    Ok(Some(ArchivedLog {
        text: streams.archived(&logs, task, num_nodes, options),
        is_complete: is_written,
    }))
}

/// The key of a task that is not in the cache.
fn absent_task(user: &UserName, record: &RecordKey) -> Arc<TaskKey> {
    Arc::new(TaskKey {
        id: record.as_str().into(),
        user: UserKey::of(user),
        submission: None,
    })
}
