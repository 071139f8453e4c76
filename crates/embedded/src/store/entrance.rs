//! The store's interface, the same in a file and in memory.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use clock::Clock;
use rusqlite::Connection;
use tokio::sync::oneshot;

use super::hub::{Hub, Position};
use super::inline::Inline;
use super::threads::Threads;
use super::transaction::Transaction;
use super::writer::{Durability, Outcome, Work};
use crate::controllers::Controllers;
use crate::error::Error;
use crate::random::Random;
use crate::refusal::Refusal;

/// How long a transaction may take before the store counts as hanging. The largest take about a second, and longer on a
/// busy disk.
const HANGS: Duration = Duration::from_secs(15);

/// The store of all objects.
pub struct Store {
    hub: Arc<Hub>,
    way: Way,
}

enum Way {
    /// In a file: one thread writes, others read.
    Threads(Threads),
    /// In memory: the caller's thread does the work.
    Inline(Inline),
}

impl Store {
    /// Opens the store in a state directory. The controllers finish what was left undone.
    pub fn open(folder: &Path, controllers: Controllers) -> Result<Self, Error> {
        let (threads, hub) = Threads::open(folder, controllers)?;
        Ok(Self {
            hub,
            way: Way::Threads(threads),
        })
    }

    /// Creates a store in memory, without threads of its own. Its timers are tokio's, so a paused clock drives them.
    pub fn in_memory(controllers: Controllers, clock: Clock, random: Random) -> Result<Self, Error> {
        let (inline, hub) = Inline::new(controllers, clock, random)?;
        Ok(Self {
            hub,
            way: Way::Inline(inline),
        })
    }

    /// The window of recent changes, for watches.
    pub fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// Runs `work` in a transaction, and waits until it is committed. Its changes are rolled back if it fails, or if
    /// `keep` is false (a dry run). Fails with the error of `work`, or with an internal error if the commit fails.
    pub async fn write<T: Send + 'static>(
        &self,
        durability: Durability,
        keep: bool,
        work: impl FnOnce(&mut Transaction<'_>) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let (sender, receiver) = oneshot::channel();
        let work: Work = Box::new(move |transaction| {
            transaction.keeps = keep;
            let result = work(transaction);
            Outcome {
                keep: keep && result.is_ok(),
                answer: Box::new(move |committed| {
                    // The caller may have been cancelled.
                    let _ = sender.send(committed.and(result));
                }),
            }
        });
        // If the writer has stopped, the work is dropped, and the sender with it.
        match &self.way {
            Way::Threads(threads) => threads.write(durability, work),
            Way::Inline(inline) => inline.write(durability, work),
        }
        let stopped = || Refusal::internal("failed to write to the database, or the store has stopped");
        receiver.await.map_err(|_| stopped())?
    }

    /// Waits until all changes up to `version` would survive a power cut.
    pub async fn persist(&self, version: Position) -> Result<(), Refusal> {
        if self.hub.durable() >= version {
            return Ok(());
        }
        // Syncing this transaction syncs all earlier ones, too.
        let last = |transaction: &mut Transaction<'_>| {
            transaction.must_last = true;
            Ok(())
        };
        self.write(Durability::Disk, true, last).await
    }

    /// Runs `work` on committed data.
    pub async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        match &self.way {
            Way::Threads(threads) => threads.read(work).await,
            Way::Inline(inline) => inline.read(work),
        }
    }

    /// Fails if the store is not writable, or if its disk is full.
    pub fn check(&self) -> Result<(), Error> {
        self.check_within(HANGS)
    }

    /// Like [`Self::check`], with another limit than [`HANGS`].
    fn check_within(&self, limit: Duration) -> Result<(), Error> {
        match &self.way {
            Way::Threads(threads) => threads.check(limit),
            Way::Inline(_) => Ok(()),
        }
    }

    /// Stops the writer after pending work.
    pub fn close(&self) {
        match &self.way {
            Way::Threads(threads) => threads.close(),
            Way::Inline(inline) => inline.close(),
        }
    }
}

#[cfg(test)]
mod tests {
    use clock::Clock;
    use serde_json::{Value, json};

    use super::{Durability, Store, Transaction};
    use crate::controllers::Controllers;
    use crate::object::{Object, kind_of};
    use crate::random::Random;
    use crate::refusal::Refusal;

    fn make(transaction: &mut Transaction<'_>, name: &str) -> Result<Object, Refusal> {
        let metadata = json!({"name": name, "namespace": "default", "uid": transaction.random.uid()});
        transaction.create(Object::new(kind_of("configmaps"), json!({"metadata": metadata})))
    }

    #[tokio::test]
    async fn a_work_that_panics_is_undone_and_the_writer_goes_on() {
        let folder = std::env::temp_dir().join(format!("k8s-cli-panic-{}", std::process::id()));
        let store = Store::open(&folder, Controllers::default()).unwrap();
        let panics = store.write(Durability::Disk, true, |transaction| {
            make(transaction, "half")?;
            let nothing: Option<Object> = None;
            nothing.ok_or_else(|| panic!("as a controller might"))
        });
        assert!(panics.await.is_err());
        store
            .write(Durability::Disk, true, |transaction| make(transaction, "whole"))
            .await
            .unwrap();
        let there = store.write(Durability::Process, true, |transaction| {
            let maps = transaction.list(kind_of("configmaps"), "default")?;
            Ok(maps.iter().map(|map| map.name().to_owned()).collect::<Vec<_>>())
        });
        assert_eq!(there.await.unwrap(), ["whole"]);
        store.check().unwrap();
        store.close();
        std::fs::remove_dir_all(folder).unwrap();
    }

    /// The server may be killed after an object is deleted, and before its directory is removed.
    #[tokio::test]
    async fn an_object_that_is_gone_is_remembered_until_its_folder_is_gone_too() {
        let folder = std::env::temp_dir().join(format!("k8s-cli-leftover-{}", std::process::id()));
        let store = Store::open(&folder, Controllers::default()).unwrap();
        let removed = store.write(Durability::Process, true, |transaction| {
            let map = make(transaction, "map")?;
            transaction.remove(map)?;
            let metadata = json!({"name": "data", "namespace": "default", "uid": "the-claim"});
            let claim = Object::new(kind_of("persistentvolumeclaims"), json!({"metadata": metadata}));
            let claim = transaction.create(claim)?;
            transaction.remove(claim)
        });
        removed.await.unwrap();
        store.close();
        drop(store);
        let store = Store::open(&folder, Controllers::default()).unwrap();
        let leftovers = store.write(Durability::Process, true, |transaction| {
            let before = transaction.leftovers()?;
            transaction.forget_leftover("the-claim")?;
            Ok((before, transaction.leftovers()?))
        });
        assert_eq!(leftovers.await.unwrap(), (vec!["the-claim".to_owned()], vec![]));
        store.close();
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[tokio::test]
    async fn a_part_that_panics_leaves_no_half_of_itself() {
        let store = Store::in_memory(Controllers::default(), Clock::system(), Random::default()).unwrap();
        let before = store.hub().newest();
        let made = store.write(Durability::Process, true, |transaction| {
            make(transaction, "cause")?;
            let effect = transaction.undone_by_a_panic(|transaction| -> Object {
                make(transaction, "half of the effect").unwrap();
                panic!("as a controller might")
            });
            assert!(effect.is_err());
            make(transaction, "next")
        });
        made.await.unwrap();
        let changes = store.hub().since(kind_of("configmaps"), before).unwrap();
        let names: Vec<String> = changes
            .iter()
            .map(|change| serde_json::from_slice::<Value>(&change.object).unwrap())
            .map(|object| object["metadata"]["name"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(names, ["cause", "next"]);
        assert_eq!(store.hub().newest(), before + 2);
    }

    #[tokio::test]
    async fn what_was_written_for_the_process_alone_is_put_on_the_disk_when_something_stands_on_it() {
        let folder = std::env::temp_dir().join(format!("k8s-cli-persist-{}", std::process::id()));
        let store = Store::open(&folder, Controllers::default()).unwrap();
        let made = store.write(Durability::Process, true, |transaction| make(transaction, "retry"));
        let version = made.await.unwrap().version();
        assert!(store.hub().durable() < version);
        store.persist(version).await.unwrap();
        assert!(store.hub().durable() >= version);
        assert!(
            store.hub().newest() > version,
            "SQLite syncs nothing when nothing changes"
        );
        store.close();
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[tokio::test]
    async fn a_writer_that_hangs_is_seen() {
        let folder = std::env::temp_dir().join(format!("k8s-cli-hang-{}", std::process::id()));
        let store = std::sync::Arc::new(Store::open(&folder, Controllers::default()).unwrap());
        let (release, held) = std::sync::mpsc::channel::<()>();
        let hanging = std::sync::Arc::clone(&store);
        let work = tokio::spawn(async move {
            let work = hanging.write(Durability::Process, true, move |_| {
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
        std::fs::remove_dir_all(folder).unwrap();
    }
}
