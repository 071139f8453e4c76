//! The store's interface, the same in a file and in memory.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use clock::Clock;
use rusqlite::Connection;
use tokio::sync::oneshot;

use super::file_store::FileStore;
use super::hooks::TransactionHooks;
use super::memory_store::MemoryStore;
use super::transaction::{Transaction, WriteMode};
use super::watch_cache::{ResourceVersion, WatchCache};
use super::writer::{Completion, Durability, Work};
use crate::error::Error;
use crate::random::Random;
use crate::status_error::StatusError;

/// How long a transaction may take before the store counts as hanging. The largest take about a second, and longer on a
/// busy disk.
const STALL_LIMIT: Duration = Duration::from_secs(15);

/// The store of all objects.
pub(crate) struct Store {
    watch_cache: Arc<WatchCache>,
    storage: Storage,
}

enum Storage {
    /// In a file: one thread writes, others read.
    File(FileStore),
    /// In memory: the caller's thread does the work.
    Memory(MemoryStore),
}

impl Store {
    /// Opens the store in a state directory. The controllers finish what was left undone.
    pub(crate) fn open(dir: &Path, hooks: Box<dyn TransactionHooks>) -> Result<Self, Error> {
        let (file_store, watch_cache) = FileStore::open(dir, hooks)?;
        Ok(Self {
            watch_cache,
            storage: Storage::File(file_store),
        })
    }

    /// Creates a store in memory, without threads of its own. Its timers are tokio's, so a paused clock drives them.
    pub(crate) fn in_memory(hooks: Box<dyn TransactionHooks>, clock: Clock, random: Random) -> Result<Self, Error> {
        let (memory_store, watch_cache) = MemoryStore::new(hooks, clock, random)?;
        Ok(Self {
            watch_cache,
            storage: Storage::Memory(memory_store),
        })
    }

    /// The window of recent changes, for watches.
    pub(crate) fn watch_cache(&self) -> &Arc<WatchCache> {
        &self.watch_cache
    }

    /// Runs `work` in a transaction, and waits until it is committed. Its changes are rolled back if it fails. Fails with
    /// the error of `work`, or with an internal error if the commit fails.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        durability: Durability,
        work: impl FnOnce(&mut Transaction<'_>) -> Result<T, StatusError> + Send + 'static,
    ) -> Result<T, StatusError> {
        self.write_or_dry_run(durability, WriteMode::Commit, work).await
    }

    /// Like [`Self::write`], but rolls the changes back in a dry run.
    pub(crate) async fn write_or_dry_run<T: Send + 'static>(
        &self,
        durability: Durability,
        mode: WriteMode,
        work: impl FnOnce(&mut Transaction<'_>) -> Result<T, StatusError> + Send + 'static,
    ) -> Result<T, StatusError> {
        let (sender, receiver) = oneshot::channel();
        let work: Work = Box::new(move |transaction| {
            transaction.mode = mode;
            let result = work(transaction);
            Completion {
                keep: mode == WriteMode::Commit && result.is_ok(),
                respond: Box::new(move |committed| {
                    // The caller may have been cancelled.
                    let _ = sender.send(committed.and(result));
                }),
            }
        });
        // If the writer has stopped, the work is dropped, and the sender with it.
        match &self.storage {
            Storage::File(file_store) => file_store.write(durability, work),
            Storage::Memory(memory_store) => memory_store.write(durability, work),
        }
        let stopped = || StatusError::internal("failed to write to the database, or the store has stopped");
        receiver.await.map_err(|_| stopped())?
    }

    /// Waits until all changes up to `version` would survive a power cut.
    pub(crate) async fn persist(&self, version: ResourceVersion) -> Result<(), StatusError> {
        if self.watch_cache.durable() >= version {
            return Ok(());
        }
        // Syncing this transaction syncs all earlier ones, too.
        let last = |transaction: &mut Transaction<'_>| {
            transaction.must_sync = true;
            Ok(())
        };
        self.write(Durability::Disk, last).await
    }

    /// Runs `work` on committed data.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StatusError> + Send + 'static,
    ) -> Result<T, StatusError> {
        match &self.storage {
            Storage::File(file_store) => file_store.read(work).await,
            Storage::Memory(memory_store) => memory_store.read(work),
        }
    }

    /// Fails if the store is not writable, or if its disk is full.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.check_within(STALL_LIMIT)
    }

    /// Like [`Self::check`], with another limit than [`STALL_LIMIT`].
    fn check_within(&self, limit: Duration) -> Result<(), Error> {
        match &self.storage {
            Storage::File(file_store) => file_store.check(limit),
            Storage::Memory(_) => Ok(()),
        }
    }

    /// Stops the writer after pending work.
    pub(crate) fn close(&self) {
        match &self.storage {
            Storage::File(file_store) => file_store.close(),
            Storage::Memory(memory_store) => memory_store.close(),
        }
    }
}

#[cfg(test)]
mod tests {
    use clock::Clock;
    use serde_json::{Value, json};

    use super::{Durability, Store, Transaction};
    use crate::object::{Kind, Object};
    use crate::random::Random;
    use crate::status_error::StatusError;
    use crate::store::hooks::NoHooks;

    fn make(transaction: &mut Transaction<'_>, name: &str) -> Result<Object, StatusError> {
        let metadata = json!({"name": name, "namespace": "default", "uid": transaction.random.uid()});
        transaction.create(Object::new(Kind::ConfigMap, json!({"metadata": metadata})))
    }

    #[tokio::test]
    async fn a_work_that_panics_is_undone_and_the_writer_goes_on() {
        let dir = std::env::temp_dir().join(format!("k8s-cli-panic-{}", std::process::id()));
        let store = Store::open(&dir, Box::new(NoHooks)).unwrap();
        let panics = store.write(Durability::Disk, |transaction| {
            make(transaction, "half")?;
            let nothing: Option<Object> = None;
            nothing.ok_or_else(|| panic!("as a controller might"))
        });
        assert!(panics.await.is_err());
        store
            .write(Durability::Disk, |transaction| make(transaction, "whole"))
            .await
            .unwrap();
        let there = store.write(Durability::Process, |transaction| {
            let maps = transaction.list(Kind::ConfigMap, "default")?;
            Ok(maps.iter().map(|map| map.name().to_owned()).collect::<Vec<_>>())
        });
        assert_eq!(there.await.unwrap(), ["whole"]);
        store.check().unwrap();
        store.close();
        std::fs::remove_dir_all(dir).unwrap();
    }

    /// The server may be killed after an object is deleted, and before its directory is removed.
    #[tokio::test]
    async fn an_object_that_is_gone_is_remembered_until_its_folder_is_gone_too() {
        let dir = std::env::temp_dir().join(format!("k8s-cli-leftover-{}", std::process::id()));
        let store = Store::open(&dir, Box::new(NoHooks)).unwrap();
        let removed = store.write(Durability::Process, |transaction| {
            let map = make(transaction, "map")?;
            transaction.remove(map)?;
            let metadata = json!({"name": "data", "namespace": "default", "uid": "the-claim"});
            let claim = Object::new(Kind::PersistentVolumeClaim, json!({"metadata": metadata}));
            let claim = transaction.create(claim)?;
            transaction.remove(claim)
        });
        removed.await.unwrap();
        store.close();
        drop(store);
        let store = Store::open(&dir, Box::new(NoHooks)).unwrap();
        let leftovers = store.write(Durability::Process, |transaction| {
            let before = transaction.leftovers()?;
            transaction.remove_leftover("the-claim")?;
            Ok((before, transaction.leftovers()?))
        });
        assert_eq!(leftovers.await.unwrap(), (vec!["the-claim".to_owned()], vec![]));
        store.close();
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[tokio::test]
    async fn a_part_that_panics_leaves_no_half_of_itself() {
        let store = Store::in_memory(Box::new(NoHooks), Clock::system(), Random::default()).unwrap();
        let before = store.watch_cache().newest();
        let made = store.write(Durability::Process, |transaction| {
            make(transaction, "cause")?;
            let effect = transaction.catch_panic(|transaction| -> Object {
                make(transaction, "half of the effect").unwrap();
                panic!("as a controller might")
            });
            assert!(effect.is_err());
            make(transaction, "next")
        });
        made.await.unwrap();
        let changes = store.watch_cache().changes_since(Kind::ConfigMap, before).unwrap();
        let names: Vec<String> = changes
            .iter()
            .map(|change| serde_json::from_slice::<Value>(&change.object).unwrap())
            .map(|object| object["metadata"]["name"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(names, ["cause", "next"]);
        assert_eq!(store.watch_cache().newest(), before + 2);
    }

    /// The writer keeps decoded objects.
    #[tokio::test]
    async fn a_change_that_was_rolled_back_is_not_seen() {
        let store = Store::in_memory(Box::new(NoHooks), Clock::system(), Random::default()).unwrap();
        let write = |work: fn(&mut Transaction<'_>) -> Result<Option<Object>, StatusError>| {
            store.write(Durability::Process, work)
        };
        let stored = write(|transaction| make(transaction, "map").map(Some)).await.unwrap();
        let find = |transaction: &mut Transaction<'_>| transaction.get(Kind::ConfigMap, "default", "map");
        let changed = write(|transaction| {
            let mut map = transaction.get(Kind::ConfigMap, "default", "map")?.unwrap();
            map.set("labels", json!({"color": "red"}));
            transaction.update(map)?;
            Err(StatusError::internal("too late"))
        });
        assert!(changed.await.is_err());
        assert_eq!(write(find).await.unwrap(), stored);
        let removed = write(|transaction| {
            let map = transaction.get(Kind::ConfigMap, "default", "map")?.unwrap();
            transaction.remove(map)?;
            assert_eq!(transaction.get(Kind::ConfigMap, "default", "map")?, None);
            Err(StatusError::internal("too late"))
        });
        assert!(removed.await.is_err());
        assert_eq!(write(find).await.unwrap(), stored);
    }

    #[tokio::test]
    async fn what_was_written_for_the_process_alone_is_put_on_the_disk_when_something_stands_on_it() {
        let dir = std::env::temp_dir().join(format!("k8s-cli-persist-{}", std::process::id()));
        let store = Store::open(&dir, Box::new(NoHooks)).unwrap();
        let made = store.write(Durability::Process, |transaction| make(transaction, "retry"));
        let version = made.await.unwrap().version();
        assert!(store.watch_cache().durable() < version);
        store.persist(version).await.unwrap();
        assert!(store.watch_cache().durable() >= version);
        assert!(
            store.watch_cache().newest() > version,
            "SQLite syncs nothing when nothing changes"
        );
        store.close();
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[tokio::test]
    async fn a_writer_that_hangs_is_seen() {
        let dir = std::env::temp_dir().join(format!("k8s-cli-hang-{}", std::process::id()));
        let store = std::sync::Arc::new(Store::open(&dir, Box::new(NoHooks)).unwrap());
        let (release, held) = std::sync::mpsc::channel::<()>();
        let hanging = std::sync::Arc::clone(&store);
        let work = tokio::spawn(async move {
            let work = hanging.write(Durability::Process, move |_| {
                let _ = held.recv();
                Ok(())
            });
            work.await
        });
        let limit = std::time::Duration::from_millis(10);
        let why = loop {
            match store.check_within(limit) {
                Ok(()) => tokio::task::yield_now().await,
                Err(why) => break why.to_string(),
            }
        };
        assert!(why.contains("has not answered for"), "{why}");
        drop(release);
        work.await.unwrap().unwrap();
        store.close();
        std::fs::remove_dir_all(dir).unwrap();
    }
}
