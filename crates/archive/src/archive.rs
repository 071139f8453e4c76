//! The archive: records and logs in the object store, and the index of the records.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use jiff::Timestamp;
use object_store::PutPayload;
use object_store::path::Path;
use task::record::{TaskRecord, UserUsage};
use tokio::time::sleep;

use crate::error::Error;
use crate::index::{HistoryFilter, Index, UsageFilter};
use crate::key::{LOGS, LogKey, RECORDS, RecordKey};
use crate::location::Location;
use crate::log_reader::{self, ReadFrom};
use crate::log_writer::LogState;
use crate::retention::{self, Content, InUse};
use crate::space::Limits;
use crate::store::{Store, written_at};

/// How many records are read concurrently for the index, and how many are added in one transaction.
const CONCURRENT_READS: usize = 64;
const BATCH: usize = 512;

/// How often to look for files that a killed server has left.
const LEFTOVERS_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);

/// How often to look how full the disk is.
const DISK_INTERVAL: Duration = Duration::from_secs(1);

/// Records and logs of tasks. A clone is the same archive.
#[derive(Debug, Clone)]
pub struct Archive {
    store: Store,
    index: Index,
    is_indexed: Arc<AtomicBool>,
}

impl Archive {
    /// Opens the archive. `index` is a directory for the index, which may be deleted while no server runs; without one, it is
    /// built again at each start. Call [`Self::rebuild_index`] next.
    ///
    /// # Errors
    /// The location cannot be used, or the index cannot be created.
    pub fn open(location: &Location, index: Option<PathBuf>, limits: Limits) -> Result<Self, Error> {
        Ok(Self {
            store: Store::open(location, limits)?,
            index: Index::open(index)?,
            is_indexed: Arc::default(),
        })
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Makes the index agree with the store: adds records that other servers have written, and removes those that are
    /// gone. Returns how many there are.
    pub async fn rebuild_index(&self) -> Result<usize, Error> {
        // In this order: a record that is written meanwhile must not look as if it were gone.
        let indexed: HashSet<String> = self.index.keys().await?.into_iter().collect();
        let objects = self.store.list(&Path::from(RECORDS)).await?;
        let stored: Vec<RecordKey> = objects
            .iter()
            .filter_map(|object| RecordKey::from_record_path(&object.location))
            .collect();
        let names: HashSet<&str> = stored.iter().map(RecordKey::as_str).collect();
        let gone: Vec<String> = indexed
            .iter()
            .filter(|key| !names.contains(key.as_str()))
            .cloned()
            .collect();
        self.index.remove(gone).await?;
        let count = stored.len();
        let is_missing = |key: &RecordKey| !indexed.contains(key.as_str());
        let missing: Vec<RecordKey> = stored.into_iter().filter(is_missing).collect();
        let reads = stream::iter(missing).map(|key| self.clone().read_keyed(key));
        let mut batches = reads.buffer_unordered(CONCURRENT_READS).chunks(BATCH);
        while let Some(batch) = batches.next().await {
            let mut records = Vec::with_capacity(batch.len());
            for (key, record) in batch {
                match record {
                    Ok(record) => records.extend(record.map(|record| (key, record))),
                    // One record that cannot be read must not hide the others.
                    Err(error) => tracing::warn!(%error, "a record is left out of the index"),
                }
            }
            self.index.insert(records).await?;
        }
        self.is_indexed.store(true, Ordering::Release);
        Ok(count)
    }

    async fn read_keyed(self, key: RecordKey) -> (RecordKey, Result<Option<TaskRecord>, Error>) {
        let record = self.record(&key).await;
        (key, record)
    }

    /// Deletes records and logs beyond the limits, and returns the number of tasks whose logs were deleted. `in_use` is asked
    /// after everything was listed: a task that begins to be written to meanwhile is in use, too. If it does not know,
    /// nothing is deleted.
    pub async fn prune(&self, now: Timestamp, in_use: impl FnOnce() -> Option<InUse>) -> Result<usize, Error> {
        let mut content = self.content().await?;
        let space = &self.store.space;
        let total = content.logs.values().map(|logs| logs.size).sum();
        // Until the deletions are done, the users are those that were counted.
        space.set_total(total);
        let Some(in_use) = in_use() else { return Ok(0) };
        for (key, logs) in &mut content.logs {
            logs.user = in_use.written.get(key).cloned();
            logs.is_live = logs.user.is_some();
        }
        if space.limits.max_user_bytes.is_some() {
            self.add_users(&mut content).await?;
        }
        let deletions = retention::decide(&content, space.limits, !space.has_room(), now, &in_use.existing);
        for key in &deletions.logs {
            self.store.delete_all(&key.logs()).await?;
        }
        let records = deletions.records.iter().map(RecordKey::record).collect();
        self.store.delete(&Path::from(RECORDS), records).await?;
        let keys = deletions.records.iter().map(|key| key.as_str().to_owned()).collect();
        self.index.remove(keys).await?;
        for (limit, bytes) in ["age", "user", "total"].into_iter().zip(deletions.bytes) {
            metrics::counter!("k8s_cli_archive_deleted_bytes_total", "limit" => limit).increment(bytes);
        }
        let count = deletions.logs.len();
        space.set(deletions.bytes_left, deletions.bytes_left_of);
        Ok(count)
    }

    /// Lists everything.
    async fn content(&self) -> Result<Content, Error> {
        let mut content = Content::default();
        self.store
            .visit(&Path::from(LOGS), |object| {
                if let Some(key) = RecordKey::from_log_path(&object.location) {
                    let logs = content.logs.entry(key).or_default();
                    logs.size += object.size;
                    logs.written_at = logs.written_at.max(Some(written_at(object)));
                }
            })
            .await?;
        self.store
            .visit(&Path::from(RECORDS), |object| {
                let key = RecordKey::from_record_path(&object.location);
                content.records.extend(key.map(|key| (key, written_at(object))));
            })
            .await?;
        Ok(content)
    }

    /// Adds the users of tasks that are not live. A log without a record in the index counts as nobody's.
    async fn add_users(&self, content: &mut Content) -> Result<(), Error> {
        let unknown = content.logs.iter().filter(|(_, logs)| logs.user.is_none());
        let keys = unknown.map(|(key, _)| key.as_str().to_owned()).collect();
        for (key, user) in self.index.users(keys).await? {
            let logs = RecordKey::from_text(&key).and_then(|key| content.logs.get_mut(&key));
            if let Some(logs) = logs {
                logs.user = Some(user);
            }
        }
        Ok(())
    }

    /// Deletes what killed servers have left in a directory, every day, until the process ends.
    pub async fn delete_leftovers(&self) {
        loop {
            let is_record = |path: &Path| RecordKey::from_record_path(path).is_some();
            let is_log = |path: &Path| RecordKey::from_log_path(path).is_some();
            let count =
                self.store.delete_leftovers(RECORDS, is_record).await + self.store.delete_leftovers(LOGS, is_log).await;
            if count > 0 {
                tracing::info!(
                    event = "leftovers_deleted",
                    count,
                    "incomplete files in the archive deleted"
                );
            }
            sleep(LEFTOVERS_INTERVAL).await;
        }
    }

    /// Looks how full the disk of the archive is, every second, until the process ends.
    pub async fn watch_disk(&self) {
        loop {
            let space = Arc::clone(&self.store.space);
            // On a mount that hangs, this waits with the one thread that hangs.
            let _ = tokio::task::spawn_blocking(move || space.check_disk()).await;
            sleep(DISK_INTERVAL).await;
        }
    }

    /// Whether logs can be written.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.store.space.has_room()
    }

    /// Whether no limit keeps logs of any user from being written.
    #[must_use]
    pub fn has_room_for_all(&self) -> bool {
        self.has_room() && self.store.space.has_room_for_all()
    }

    /// Whether the index has been compared with the store since the start. Before that, records may be missing in it.
    #[must_use]
    pub fn is_indexed(&self) -> bool {
        self.is_indexed.load(Ordering::Acquire)
    }

    /// Writes a record, unless another server has written one; that one then counts.
    pub async fn put_record(&self, key: &RecordKey, record: &TaskRecord) -> Result<(), Error> {
        let content = serde_json::to_vec(record)?;
        let is_stored = self.store.put_new(&key.record(), PutPayload::from(content)).await?;
        let record = if is_stored {
            Some(record.clone())
        } else {
            self.record(key).await?
        };
        let records = record.map(|record| (key.clone(), record)).into_iter().collect();
        self.index.insert(records).await
    }

    /// Whether there is a record, also one that the index does not have yet.
    pub async fn has_record(&self, key: &RecordKey) -> Result<bool, Error> {
        if self.index.contains(key).await? {
            return Ok(true);
        }
        let record = self.record(key).await?;
        let is_there = record.is_some();
        self.index
            .insert(record.map(|record| (key.clone(), record)).into_iter().collect())
            .await?;
        Ok(is_there)
    }

    /// Reads a record.
    pub async fn record(&self, key: &RecordKey) -> Result<Option<TaskRecord>, Error> {
        let path = key.record();
        let Some(content) = self.store.get(&path).await? else {
            return Ok(None);
        };
        let record = serde_json::from_slice(&content).map_err(|error| Error::Invalid {
            path: path.to_string(),
            reason: error.to_string(),
        })?;
        Ok(Some(record))
    }

    /// The key of this user's newest record of a task with this ID.
    pub async fn find_record(&self, user: &str, id: &str) -> Result<Option<RecordKey>, Error> {
        self.index.find(user, id).await
    }

    /// The newest records that match: their keys, and their entries as JSON.
    pub async fn records(&self, filter: HistoryFilter) -> Result<Vec<(String, String)>, Error> {
        self.index.page(filter).await
    }

    /// What the tasks with a record that matches used, by user.
    pub async fn usage(&self, filter: UsageFilter) -> Result<Vec<UserUsage>, Error> {
        self.index.usage(filter).await
    }

    /// Which of these records are in the index.
    pub async fn indexed(&self, keys: &[RecordKey]) -> Result<HashSet<String>, Error> {
        let keys = keys.iter().map(|key| key.as_str().to_owned()).collect();
        self.index.contained(keys).await
    }

    /// What the archive has of a log, for writing the rest.
    pub async fn log(&self, key: LogKey) -> Result<LogState, Error> {
        LogState::read(&self.store, key).await
    }

    /// What the archive has of a log, for reading. Damage does not fail; it shows in the text.
    pub async fn readable_log(&self, key: LogKey) -> Result<LogState, Error> {
        LogState::read_readable(&self.store, key).await
    }

    /// The logs of a task that are in the archive, in the order of nodes, attempts, and pods.
    pub async fn logs_of(&self, task: &RecordKey) -> Result<Vec<LogKey>, Error> {
        let objects = self.store.list(&task.logs()).await?;
        let keys = objects
            .iter()
            .filter_map(|object| LogKey::from_path(task, &object.location));
        let mut keys: Vec<LogKey> = keys.map(|(key, _)| key).collect();
        keys.dedup();
        Ok(keys)
    }

    /// Reads a part of a log. The text begins with a whole line; each line has its time, as the Kubernetes API writes it. What
    /// is damaged or missing is a line that says so.
    pub async fn read_log(
        &self,
        key: LogKey,
        from: ReadFrom,
    ) -> Result<impl Stream<Item = Result<Bytes, Error>> + Send + use<>, Error> {
        log_reader::read(&self.store, key, from).await
    }
}

#[cfg(test)]
mod tests;
