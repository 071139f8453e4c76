//! The store in memory: runs work immediately, on the caller's thread.
//!
//! It never waits for another thread: during such a wait, tokio's paused clock would jump to the next timer.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use clock::Clock;
use rusqlite::Connection;
use tokio::sync::Notify;
use tokio::time::sleep_until;
use tokio_util::task::AbortOnDropHandle;

use super::database;
use super::hub::Hub;
use super::writer::{Durability, Work, Writer};
use crate::controllers::Controllers;
use crate::error::Error;
use crate::random::Random;
use crate::refusal::Refusal;

pub(super) struct Inline {
    shared: Arc<Shared>,
    /// Wakes the controllers when one of their timers is due.
    timer: AbortOnDropHandle<()>,
}

struct Shared {
    writer: Mutex<Writer>,
    /// Notified when the controllers' next timer changes.
    rescheduled: Notify,
}

impl Shared {
    fn writer(&self) -> MutexGuard<'_, Writer> {
        // The writer rolls back work that panics. If the writer itself panics, its next transaction fails and rolls
        // back the rest.
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn keep_time(&self) {
        loop {
            let next = self.writer().next_wake();
            let due = async {
                match next {
                    Some(time) => sleep_until(time).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = self.rescheduled.notified() => {}
                () = due => self.writer().transact(Vec::new(), false),
            }
        }
    }
}

impl Inline {
    /// Creates an empty store and its hub.
    pub fn new(controllers: Controllers, clock: Clock, random: Random) -> Result<(Self, Arc<Hub>), Error> {
        let (mut writer, hub) = Writer::new(database::in_memory()?, controllers, clock, random)
            .map_err(|source| database::error(database::MEMORY, source))?;
        writer.transact(Vec::new(), true);
        let shared = Arc::new(Shared {
            writer: Mutex::new(writer),
            rescheduled: Notify::new(),
        });
        let kept = Arc::clone(&shared);
        let timer = AbortOnDropHandle::new(tokio::spawn(async move { kept.keep_time().await }));
        Ok((Self { shared, timer }, hub))
    }

    pub fn write(&self, durability: Durability, work: Work) {
        let mut writer = self.shared.writer();
        let before = writer.next_wake();
        writer.transact(vec![(durability, work)], false);
        if writer.next_wake() != before {
            self.shared.rescheduled.notify_one();
        }
    }

    pub fn read<T>(&self, work: impl FnOnce(&Connection) -> Result<T, Refusal>) -> Result<T, Refusal> {
        work(self.shared.writer().connection())
    }

    pub fn close(&self) {
        self.timer.abort();
    }
}
