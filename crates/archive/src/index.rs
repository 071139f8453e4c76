//! The index: a SQLite database that makes records searchable. It can be deleted at any time.

mod database;
mod query;
mod usage;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use task::record::{TaskRecord, UserUsage};
use tempfile::TempDir;

pub(crate) use database::Row;
pub use query::{HistoryCursor, HistoryFilter, matches_glob};
pub use usage::UsageFilter;

use crate::error::Error;
use crate::key::RecordKey;

/// The index. One connection writes and another one reads, so that a page does not wait for a rebuild.
#[derive(Debug, Clone)]
pub(crate) struct Index {
    writer: Arc<Mutex<Connection>>,
    reader: Arc<Mutex<Connection>>,
    /// Deleted with the index, if nobody has named a directory.
    _temporary: Option<Arc<TempDir>>,
}

impl Index {
    /// Opens the index in a directory, or creates it. Without one, it lives as long as this process.
    pub(crate) fn open(dir: Option<PathBuf>) -> Result<Self, Error> {
        let unusable = |path: PathBuf| move |source| Error::Directory { path, source };
        let temporary = match &dir {
            Some(_) => None,
            None => Some(Arc::new(TempDir::new().map_err(unusable(std::env::temp_dir()))?)),
        };
        let dir = dir.or_else(|| temporary.as_ref().map(|dir| dir.path().to_owned()));
        let dir = dir.unwrap_or_default();
        std::fs::create_dir_all(&dir).map_err(unusable(dir.clone()))?;
        let (writer, reader) = database::open(&dir)?;
        Ok(Self {
            writer: Arc::new(Mutex::new(writer)),
            reader: Arc::new(Mutex::new(reader)),
            _temporary: temporary,
        })
    }

    /// Adds records.
    pub(crate) async fn insert(&self, records: Vec<(RecordKey, TaskRecord)>) -> Result<(), Error> {
        let rows = records.iter().map(|(key, record)| Row::of(key, record));
        let rows = rows.collect::<Result<Vec<_>, _>>()?;
        self.write(move |connection| database::insert(connection, &rows)).await
    }

    /// Removes records.
    pub(crate) async fn remove(&self, keys: Vec<String>) -> Result<(), Error> {
        self.write(move |connection| database::remove(connection, &keys)).await
    }

    /// The keys of all records, in order.
    pub(crate) async fn keys(&self) -> Result<Vec<String>, Error> {
        self.read(database::keys).await
    }

    /// Whether there is a record with this key.
    pub(crate) async fn contains(&self, key: &RecordKey) -> Result<bool, Error> {
        let key = key.as_str().to_owned();
        self.read(move |connection| database::contains(connection, &key)).await
    }

    /// The record of this user's newest task with this ID.
    pub(crate) async fn find(&self, user: &str, id: &str) -> Result<Option<RecordKey>, Error> {
        let (user, id) = (user.to_owned(), id.to_owned());
        let key = self
            .read(move |connection| database::find(connection, &user, &id))
            .await?;
        Ok(key.and_then(|key| RecordKey::from_text(&key)))
    }

    /// The newest records that match, as keys and JSON.
    pub(crate) async fn page(&self, filter: HistoryFilter) -> Result<Vec<(String, String)>, Error> {
        self.read(move |connection| query::page(connection, &filter)).await
    }

    /// What the tasks that match used, by user.
    pub(crate) async fn usage(&self, filter: UsageFilter) -> Result<Vec<UserUsage>, Error> {
        self.read(move |connection| usage::sum(connection, &filter)).await
    }

    /// The users of these tasks, as far as they have a record.
    pub(crate) async fn users(&self, keys: Vec<String>) -> Result<Vec<(String, Arc<str>)>, Error> {
        self.read(move |connection| database::users(connection, keys)).await
    }

    /// Which of these keys have a record.
    pub(crate) async fn contained(&self, keys: Vec<String>) -> Result<HashSet<String>, Error> {
        let contained = move |connection: &Connection| {
            let mut contained = HashSet::new();
            for key in keys {
                if database::contains(connection, &key)? {
                    contained.insert(key);
                }
            }
            Ok(contained)
        };
        self.read(contained).await
    }

    async fn read<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Connection) -> Result<T, rusqlite::Error> + Send + 'static,
    ) -> Result<T, Error> {
        let reader = Arc::clone(&self.reader);
        blocking(move || call(&reader.lock().unwrap_or_else(PoisonError::into_inner))).await
    }

    async fn write<T: Send + 'static>(
        &self,
        call: impl FnOnce(&mut Connection) -> Result<T, rusqlite::Error> + Send + 'static,
    ) -> Result<T, Error> {
        let writer = Arc::clone(&self.writer);
        blocking(move || call(&mut writer.lock().unwrap_or_else(PoisonError::into_inner))).await
    }
}

async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> Result<T, rusqlite::Error> + Send + 'static,
) -> Result<T, Error> {
    let called = tokio::task::spawn_blocking(call).await;
    // The runtime cancels a blocking call only when it shuts down.
    called
        .unwrap_or(Err(rusqlite::Error::QueryReturnedNoRows))
        .map_err(Error::from)
}
