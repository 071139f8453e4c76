//! Works that are done by whoever asks, at once and in memory. No other thread is waited for: while tokio's clock is paused, such
//! a wait would let it jump to the next timer.

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
    /// Wakes the controllers.
    timer: AbortOnDropHandle<()>,
}

struct Shared {
    writer: Mutex<Writer>,
    /// The controllers want to be woken at another time.
    rescheduled: Notify,
}

impl Shared {
    fn writer(&self) -> MutexGuard<'_, Writer> {
        // A work that panics is undone by the writer. If the writer itself panics, its next transaction fails and undoes what is left.
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
    /// An empty store, and its window.
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
