//! The names of objects in the archive.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use object_store::path::Path;

/// The prefixes of all records and of all logs.
pub(crate) const RECORDS: &str = "records";
pub(crate) const LOGS: &str = "logs";

/// Identifies a task in the archive: `DAY/TIME-ID-SUBMISSION`. Keys sort by the time of submission.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordKey(String);

impl RecordKey {
    /// The key of the task with this ID. Several tasks may have had the same ID, of different users or at different times;
    /// `submission` tells them apart.
    ///
    /// All servers must pass the same values for a task, because the first one to write a record decides.
    #[must_use]
    pub fn new(created_at: Timestamp, id: &str, submission: &str) -> Self {
        let safe = |text: &str| -> String {
            let is_safe = |char: char| char.is_ascii_alphanumeric() || matches!(char, '_' | '.');
            text.chars()
                .map(|char| if is_safe(char) { char } else { '_' })
                .collect()
        };
        Self(format!(
            "{}-{}-{}",
            Self::first_after(created_at),
            safe(id),
            safe(submission)
        ))
    }

    /// No key of a task that was submitted at this time or later sorts before it.
    pub(crate) fn first_after(time: Timestamp) -> String {
        let time = time.to_zoned(TimeZone::UTC);
        format!("{}/{}", time.strftime("%Y-%m-%d"), time.strftime("%Y%m%dT%H%M%S.%6fZ"))
    }

    /// Reads the key in the path of an object of a log.
    pub(crate) fn from_log_path(path: &Path) -> Option<Self> {
        let rest = path.as_ref().strip_prefix(LOGS)?.strip_prefix('/')?;
        let (day, rest) = rest.split_once('/')?;
        let (stem, _) = rest.split_once('/')?;
        Self::from_text(&format!("{day}/{stem}"))
    }

    /// Reads the key in the path of a record.
    pub(crate) fn from_record_path(path: &Path) -> Option<Self> {
        let key = path.as_ref().strip_prefix(RECORDS)?.strip_prefix('/')?;
        Self::from_text(key.strip_suffix(".json")?)
    }

    /// Reads a key, e.g., from the index.
    pub(crate) fn from_text(text: &str) -> Option<Self> {
        let (day, stem) = text.split_once('/')?;
        let mut parts = stem.splitn(3, '-');
        let (time, _id, _submission) = (parts.next()?, parts.next()?, parts.next()?);
        // A folder or a bucket may also have objects of others, which must not be taken for ours.
        let time = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%S.%6fZ", time).ok()?;
        let is_key = time.strftime("%Y-%m-%d").to_string() == day && !stem.contains('/');
        is_key.then(|| Self(text.to_owned()))
    }

    /// The ID of the task, as it is in the key.
    #[must_use]
    pub fn task_id(&self) -> &str {
        // `DAY/TIME-ID-SUBMISSION`; the day has two dashes of its own.
        let stem = self.0.split_once('/').map_or("", |(_, stem)| stem);
        stem.split('-').nth(1).unwrap_or_default()
    }

    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn record(&self) -> Path {
        Path::from(format!("{RECORDS}/{}.json", self.0))
    }

    pub(crate) fn logs(&self) -> Path {
        Path::from(format!("{LOGS}/{}", self.0))
    }
}

/// Identifies the log of a pod. The keys of a node sort in the order of its pods.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LogKey {
    /// The task.
    pub task: RecordKey,
    /// The rank of the node.
    pub rank: u32,
    /// The attempt, starting at 1.
    pub attempt: u32,
    /// When the pod was created, in milliseconds since 1970. An attempt may have several pods.
    pub created_at: i64,
    /// The uid of the pod.
    pub pod: String,
}

impl LogKey {
    fn dir(&self) -> String {
        format!(
            "{LOGS}/{}/{:04}/{:04}-{:014}-{}",
            self.task.0, self.rank, self.attempt, self.created_at, self.pod
        )
    }

    pub(crate) fn prefix(&self) -> Path {
        Path::from(self.dir())
    }

    pub(crate) fn frame(&self, number: u32) -> Path {
        Path::from(format!("{}/{number:08}", self.dir()))
    }

    pub(crate) fn end(&self) -> Path {
        Path::from(format!("{}/end", self.dir()))
    }

    /// Reads the key in the path of a frame or of the end of a log of this task, and the last part of the path.
    pub(crate) fn from_path<'a>(task: &RecordKey, path: &'a Path) -> Option<(Self, &'a str)> {
        let rest = path.as_ref().strip_prefix(task.logs().as_ref())?.strip_prefix('/')?;
        let (rank, rest) = rest.split_once('/')?;
        let (pod, object) = rest.split_once('/')?;
        let mut parts = pod.splitn(3, '-');
        let key = Self {
            task: task.clone(),
            rank: rank.parse().ok()?,
            attempt: parts.next()?.parse().ok()?,
            created_at: parts.next()?.parse().ok()?,
            pod: parts.next()?.to_owned(),
        };
        Some((key, object))
    }
}

#[cfg(test)]
mod tests {
    use super::{LogKey, Path, RecordKey};

    fn key(time: &str) -> RecordKey {
        RecordKey::new(time.parse().unwrap(), "abcd1234", "0a/..%")
    }

    #[test]
    fn keys_sort_by_the_time_of_submission_and_contain_no_separators_of_others() {
        let early = key("2026-11-27T23:59:59.5Z");
        assert_eq!(early.as_str(), "2026-11-27/20261127T235959.500000Z-abcd1234-0a_.._");
        assert_eq!(early.task_id(), "abcd1234");
        assert!(early < key("2026-11-28T00:00:00Z"));
        assert_eq!(RecordKey::from_record_path(&early.record()), Some(early));
        assert_eq!(RecordKey::from_record_path(&Path::from("records/x.json")), None);
    }

    #[test]
    fn the_path_of_a_frame_names_its_log() {
        let log = LogKey {
            task: key("2026-11-27T23:59:59.5Z"),
            rank: 12,
            attempt: 2,
            created_at: 1_795_000_000_123,
            pod: "0ffe-11".to_owned(),
        };
        let path = log.frame(7);
        assert_eq!(LogKey::from_path(&log.task, &path), Some((log.clone(), "00000007")));
        let path = log.end();
        assert_eq!(LogKey::from_path(&log.task, &path), Some((log, "end")));
    }
}
