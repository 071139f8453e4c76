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
use super::hooks::TransactionHooks;
use super::watch_cache::WatchCache;
use super::writer::{Durability, Work, Writer};
use crate::error::Error;
use crate::random::Random;
use crate::status_error::StatusError;

pub(super) struct MemoryStore {
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

    async fn run_timers(&self) {
        loop {
            let next = self.writer().next_timer();
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

impl MemoryStore {
    /// Creates an empty store and its watch cache.
    pub(crate) fn new(
        hooks: Box<dyn TransactionHooks>,
        clock: Clock,
        random: Random,
    ) -> Result<(Self, Arc<WatchCache>), Error> {
        let (mut writer, watch_cache) = Writer::new(database::in_memory()?, hooks, clock, random)
            .map_err(|source| database::error(database::MEMORY, source))?;
        writer.transact(Vec::new(), true);
        let shared = Arc::new(Shared {
            writer: Mutex::new(writer),
            rescheduled: Notify::new(),
        });
        let timer_state = Arc::clone(&shared);
        let timer = AbortOnDropHandle::new(tokio::spawn(async move { timer_state.run_timers().await }));
        Ok((Self { shared, timer }, watch_cache))
    }

    pub(crate) fn write(&self, durability: Durability, work: Work) {
        let mut writer = self.shared.writer();
        let before = writer.next_timer();
        writer.transact(vec![(durability, work)], false);
        if writer.next_timer() != before {
            self.shared.rescheduled.notify_one();
        }
    }

    pub(crate) fn read<T>(&self, work: impl FnOnce(&Connection) -> Result<T, StatusError>) -> Result<T, StatusError> {
        work(self.shared.writer().connection())
    }

    pub(crate) fn close(&self) {
        self.timer.abort();
    }
}
