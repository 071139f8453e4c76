//! The store as the API, the node and the controllers' clock see it: one way in, however the works get to the writer.

use std::path::Path;
use std::sync::Arc;

use clock::Clock;
use rusqlite::Connection;
use tokio::sync::oneshot;

use super::hub::Hub;
use super::inline::Inline;
use super::threads::Threads;
use super::transaction::Transaction;
use super::writer::{Durability, Outcome, Work};
use crate::controllers::Controllers;
use crate::error::Error;
use crate::random::Random;
use crate::refusal::Refusal;

/// The store of all objects.
pub struct Store {
    hub: Arc<Hub>,
    way: Way,
}

enum Way {
    /// From a file: a thread writes, others read.
    Threads(Threads),
    /// From memory: whoever asks does it.
    Inline(Inline),
}

impl Store {
    /// Opens the store in a folder, and lets the controllers do what was left undone.
    ///
    /// # Errors
    /// The folder is in use, or cannot be used.
    pub fn open(folder: &Path, controllers: Controllers) -> Result<Self, Error> {
        let (threads, hub) = Threads::open(folder, controllers)?;
        Ok(Self {
            hub,
            way: Way::Threads(threads),
        })
    }

    /// Makes a store that lives as long as this process, and needs no thread but the one that asks. Its timers are tokio's.
    ///
    /// # Errors
    /// `SQLite` does not work.
    pub fn in_memory(controllers: Controllers, clock: Clock, random: Random) -> Result<Self, Error> {
        let (inline, hub) = Inline::new(controllers, clock, random)?;
        Ok(Self {
            hub,
            way: Way::Inline(inline),
        })
    }

    /// The window on the latest changes.
    #[must_use]
    pub fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// Does `work` in a transaction, and waits until it is committed. What it changed stays only if it gives no error and
    /// is to be kept at all.
    ///
    /// # Errors
    /// What `work` refuses; an internal error when the transaction cannot be committed.
    pub async fn write<T: Send + 'static>(
        &self,
        durability: Durability,
        keep: bool,
        work: impl FnOnce(&mut Transaction<'_>) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let (sender, receiver) = oneshot::channel();
        let work: Work = Box::new(move |transaction| {
            let result = work(transaction);
            Outcome {
                keep: keep && result.is_ok(),
                answer: Box::new(move |committed| {
                    // Who asked may have gone.
                    let _ = sender.send(committed.and(result));
                }),
            }
        });
        // A work that cannot be handed over drops the sender.
        match &self.way {
            Way::Threads(threads) => threads.write(durability, work),
            Way::Inline(inline) => inline.write(durability, work),
        }
        let stopped = || Refusal::internal("the database could not be written, or the store has stopped");
        receiver.await.map_err(|_| stopped())?
    }

    /// Reads what is committed.
    ///
    /// # Errors
    /// What `work` gives; an internal error when the database cannot be read.
    pub async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        match &self.way {
            Way::Threads(threads) => threads.read(work).await,
            Way::Inline(inline) => inline.read(work),
        }
    }

    /// Ends the writer when it has done what waits for it.
    pub fn close(&self) {
        match &self.way {
            Way::Threads(threads) => threads.close(),
            Way::Inline(inline) => inline.close(),
        }
    }
}
