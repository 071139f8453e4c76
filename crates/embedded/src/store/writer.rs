//! The only writer: runs work in transactions, lets the controllers react, and responds after the commit.

use std::sync::Arc;
use std::time::Duration;

use clock::Clock;
use rusqlite::Connection;
use tokio::time::Instant;

use super::database::DirLock;
use super::decoded_objects::DecodedObjects;
use super::health::WriterHealth;
use super::hooks::TransactionHooks;
use super::page_reserve;
use super::transaction::Transaction;
use super::watch_cache::WatchCache;
use crate::disk::Disk;
use crate::random::Random;
use crate::status_error::StatusError;

/// What must survive a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Durability {
    /// Nothing: for the state of processes, which don't survive it either.
    Process,
    /// Everything: what was confirmed to a client is on disk.
    Disk,
}

/// Pause between attempts to restore the reserve, since each may write as much as the disk takes.
const RESERVE_PAUSE: Duration = Duration::from_secs(1);

pub(super) type Work = Box<dyn FnOnce(&mut Transaction<'_>) -> Completion + Send>;

/// Reports to the caller whether the work was committed.
pub(super) type Respond = Box<dyn FnOnce(Result<(), StatusError>) + Send>;

/// Whether to keep the changes of a work item, and how to respond to its caller.
pub(super) struct Completion {
    pub keep: bool,
    pub respond: Respond,
}

pub(super) struct Writer {
    connection: Connection,
    decoded: DecodedObjects,
    hooks: Box<dyn TransactionHooks>,
    watch_cache: Arc<WatchCache>,
    version: i64,
    /// What the connection's `synchronous` mode currently provides.
    durability: Durability,
    clock: Clock,
    random: Random,
    health: Arc<WriterHealth>,
    /// `None` in memory.
    lock: Option<Arc<DirLock>>,
    /// `None` in memory.
    disk: Option<Disk>,
    /// When to try to restore the disk's reserve; `None` if it is in place.
    reserve_due: Option<Instant>,
}

impl Writer {
    /// Creates a writer, and the watch cache that it publishes to.
    pub(crate) fn new(
        connection: Connection,
        hooks: Box<dyn TransactionHooks>,
        clock: Clock,
        random: Random,
    ) -> rusqlite::Result<(Self, Arc<WatchCache>)> {
        let version = connection.query_row("SELECT value FROM meta WHERE name = 'version'", [], |row| row.get(0))?;
        let watch_cache = Arc::new(WatchCache::new(version));
        let writer = Self {
            connection,
            decoded: DecodedObjects::default(),
            hooks,
            watch_cache: Arc::clone(&watch_cache),
            version,
            durability: Durability::Disk,
            clock,
            random,
            health: Arc::default(),
            lock: None,
            disk: None,
            reserve_due: None,
        };
        Ok((writer, watch_cache))
    }

    /// Writes only while this lock is in place from now on.
    pub(crate) fn set_lock(&mut self, lock: Arc<DirLock>) {
        self.lock = Some(lock);
    }

    /// Keeps a reserve on this disk from now on.
    pub(crate) fn set_disk(&mut self, disk: Disk) {
        if disk.is_low() {
            self.restart_write_ahead_log();
        } else if let Err(error) = page_reserve::fill(&self.connection) {
            tracing::warn!(%error, "failed to reserve space in the database for a full disk");
        }
        self.reserve_due = (!disk.create_reserve()).then(Instant::now);
        self.disk = Some(disk);
    }

    pub(crate) fn health(&self) -> Arc<WriterHealth> {
        Arc::clone(&self.health)
    }

    /// When the next timer of the controllers is due.
    pub(crate) fn next_timer(&self) -> Option<Instant> {
        self.hooks.next_timer()
    }

    /// For reads between transactions.
    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Runs a transaction: all work items, the controllers' reactions to them, and the controllers' timers that are
    /// due.
    pub(crate) fn transact(&mut self, batch: Vec<(Durability, Work)>, is_first: bool) {
        self.health.transaction_began();
        let durability = batch.iter().map(|(durability, _)| *durability).max();
        self.set_durability(durability.unwrap_or(Durability::Process));
        let mut responses = Vec::new();
        let committed = self.run_transaction(batch, is_first, &mut responses);
        if let Err(error) = &committed {
            self.handle_rollback(error);
        }
        for respond in responses {
            respond(match &committed {
                Ok(()) => Ok(()),
                Err(_) => Err(StatusError::internal("failed to write to the database")),
            });
        }
        // After the responses, since no caller waits for this.
        if committed.is_ok() {
            self.restore_reserves();
        }
        self.health.transaction_ended();
    }

    /// Cleans up after a failed transaction.
    fn handle_rollback(&mut self, error: &rusqlite::Error) {
        // Log only the first failure: while the disk is full, all transactions fail.
        if self.health.check().is_ok() {
            tracing::error!(%error, "transaction failed; its requests are rejected");
        }
        self.health.record_failure(error.to_string());
        // This fails if the transaction failed to begin, or is already rolled back.
        let _ = self.connection.execute_batch("ROLLBACK");
        self.decoded.clear();
        // They have seen changes that were rolled back.
        self.hooks.on_rollback();
        // Even if the disk doesn't look full: the free space of a file system doesn't reflect quotas.
        if let Some(disk) = &self.disk {
            disk.release_reserve();
            self.reserve_due = Some(Instant::now());
            self.restart_write_ahead_log();
        }
    }

    /// Empties the write-ahead log, so that the next transaction writes at its beginning, where there is space.
    fn restart_write_ahead_log(&self) {
        if let Err(error) = page_reserve::checkpoint(&self.connection) {
            tracing::debug!(%error, "failed to checkpoint the write-ahead log");
        }
    }

    /// Restores the reserve for a full disk, if it was used.
    fn restore_reserves(&mut self) {
        let Some(disk) = self.disk.as_ref() else { return };
        let is_used_up = matches!(page_reserve::is_used_up(&self.connection), Ok(true));
        let is_due = self.reserve_due.is_some_and(|due| due <= Instant::now());
        if !(is_used_up || is_due) || disk.is_low() {
            return;
        }
        if is_used_up && let Err(error) = page_reserve::fill(&self.connection) {
            tracing::debug!(%error, "failed to reserve space in the database");
        }
        if is_due {
            self.reserve_due = (!disk.create_reserve()).then(|| Instant::now() + RESERVE_PAUSE);
        }
    }

    /// Whether the disk lacks its reserve.
    pub(crate) fn lacks_reserve(&self) -> bool {
        self.reserve_due.is_some()
    }

    fn run_transaction(
        &mut self,
        batch: Vec<(Durability, Work)>,
        is_first: bool,
        responses: &mut Vec<Respond>,
    ) -> rusqlite::Result<()> {
        if let Some(lock) = &self.lock {
            // SQLite has this error, too, but not with a write-ahead log. Starting a container takes a transaction.
            lock.check().map_err(|error| {
                let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_READONLY_DBMOVED);
                rusqlite::Error::SqliteFailure(code, Some(error.to_string()))
            })?;
        }
        self.connection.execute_batch("BEGIN IMMEDIATE")?;
        let mut transaction = Transaction::new(
            &self.connection,
            &self.decoded,
            self.version,
            self.clock.now(),
            &mut self.random,
        );
        transaction.disk_is_full = self.disk.as_ref().is_some_and(Disk::is_low);
        if is_first {
            self.hooks.on_open(&mut transaction);
        }
        for (_, work) in batch {
            // Work that panics is rolled back like work that fails. It has no completion, and its caller gets an error
            // because the work was dropped.
            let completion = transaction.savepoint(work, |completion| completion.keep)?;
            if completion.as_ref().is_some_and(|completion| completion.keep) {
                self.hooks.on_changes(&mut transaction);
            }
            responses.extend(completion.map(|completion| completion.respond));
        }
        self.hooks.on_timers(&mut transaction);
        let is_durable = self.durability == Durability::Disk;
        // A transaction without writes doesn't sync earlier commits.
        let owes_sync = transaction.must_sync && self.watch_cache.durable() < self.version;
        if transaction.version == self.version && !owes_sync && self.health.check().is_ok() {
            return self.connection.execute_batch("COMMIT");
        }
        if transaction.version == self.version {
            // SQLite doesn't write unchanged pages. Without a new version, nothing would be synced, and a store that
            // had failed would not prove that it works again.
            transaction.version += 1;
        }
        transaction.write_version()?;
        let (version, changes) = (transaction.version, transaction.changes);
        self.connection.execute_batch("COMMIT")?;
        self.health.record_success();
        self.version = version;
        if is_durable {
            self.watch_cache.mark_durable(version);
        }
        // Only after the commit: watches must not see changes that may still be rolled back.
        self.watch_cache.publish(changes, version);
        Ok(())
    }

    fn set_durability(&mut self, durability: Durability) {
        if durability == self.durability {
            return;
        }
        let mode = match durability {
            Durability::Disk => "FULL",
            Durability::Process => "NORMAL",
        };
        match self.connection.pragma_update(None, "synchronous", mode) {
            Ok(()) => self.durability = durability,
            Err(error) => tracing::warn!(%error, "failed to set the durability of the database"),
        }
    }
}
