//! The only writer: runs work in transactions, lets the controllers react, and responds after the commit.

use std::sync::Arc;
use std::time::Duration;

use clock::Clock;
use rusqlite::Connection;
use tokio::time::Instant;

use super::health::Health;
use super::hub::Hub;
use super::room;
use super::transaction::Transaction;
use crate::controllers::Controllers;
use crate::disk::Disk;
use crate::random::Random;
use crate::refusal::Refusal;

/// What must survive a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// Nothing: for the state of processes, which don't survive it either.
    Process,
    /// Everything: what was confirmed to a client is on disk.
    Disk,
}

/// Pause between attempts to restore the reserve, since each may write as much as the disk takes.
const RESERVE_PAUSE: Duration = Duration::from_secs(1);

pub(super) type Work = Box<dyn FnOnce(&mut Transaction<'_>) -> Outcome + Send>;

/// Reports to the caller whether the work was committed.
pub(super) type Answer = Box<dyn FnOnce(Result<(), Refusal>) + Send>;

/// Whether to keep the changes of a work item, and how to respond to its caller.
pub(super) struct Outcome {
    pub keep: bool,
    pub answer: Answer,
}

pub(super) struct Writer {
    connection: Connection,
    controllers: Controllers,
    hub: Arc<Hub>,
    version: i64,
    /// What the connection's `synchronous` mode currently provides.
    durability: Durability,
    clock: Clock,
    random: Random,
    health: Arc<Health>,
    /// `None` in memory.
    disk: Option<Disk>,
    /// When to try to restore the disk's reserve; `None` if it is in place.
    reserve_due: Option<Instant>,
}

impl Writer {
    /// Creates a writer, and the hub that it publishes to.
    pub fn new(
        connection: Connection,
        controllers: Controllers,
        clock: Clock,
        random: Random,
    ) -> rusqlite::Result<(Self, Arc<Hub>)> {
        let version = connection.query_row("SELECT value FROM meta WHERE name = 'version'", [], |row| row.get(0))?;
        let hub = Arc::new(Hub::new(version));
        let writer = Self {
            connection,
            controllers,
            hub: Arc::clone(&hub),
            version,
            durability: Durability::Disk,
            clock,
            random,
            health: Arc::default(),
            disk: None,
            reserve_due: None,
        };
        Ok((writer, hub))
    }

    /// Keeps a reserve on this disk from now on.
    pub fn stand_on(&mut self, disk: Disk) {
        if disk.is_low() {
            self.begin_log_again();
        } else if let Err(error) = room::make(&self.connection) {
            tracing::warn!(%error, "failed to reserve space in the database for a full disk");
        }
        self.reserve_due = (!disk.hold()).then(Instant::now);
        self.disk = Some(disk);
    }

    pub fn health(&self) -> Arc<Health> {
        Arc::clone(&self.health)
    }

    /// When the next timer of the controllers is due.
    pub fn next_wake(&self) -> Option<Instant> {
        self.controllers.next_wake()
    }

    /// For reads between transactions.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Runs a transaction: all work items, the controllers' reactions to them, and the controllers' timers that are
    /// due.
    pub fn transact(&mut self, batch: Vec<(Durability, Work)>, is_first: bool) {
        self.health.begins();
        let durability = batch.iter().map(|(durability, _)| *durability).max();
        self.set_durability(durability.unwrap_or(Durability::Process));
        let mut answers = Vec::new();
        let committed = self.attempt(batch, is_first, &mut answers);
        if let Err(error) = &committed {
            self.undo(error);
        }
        for answer in answers {
            answer(match &committed {
                Ok(()) => Ok(()),
                Err(_) => Err(Refusal::internal("failed to write to the database")),
            });
        }
        // After the responses, since no caller waits for this.
        if committed.is_ok() {
            self.keep_room();
        }
        self.health.ends();
    }

    /// Cleans up after a failed transaction.
    fn undo(&mut self, error: &rusqlite::Error) {
        // Log only the first failure: while the disk is full, all transactions fail.
        if self.health.check().is_ok() {
            tracing::error!(%error, "transaction failed; its requests are rejected");
        }
        self.health.failed(error.to_string());
        // This fails if the transaction failed to begin, or is already rolled back.
        let _ = self.connection.execute_batch("ROLLBACK");
        // They have seen changes that were rolled back.
        self.controllers.forget();
        // Even if the disk doesn't look full: the free space of a file system doesn't reflect quotas.
        if let Some(disk) = &self.disk {
            disk.release();
            self.reserve_due = Some(Instant::now());
            self.begin_log_again();
        }
    }

    /// Empties the write-ahead log, so that the next transaction writes at its beginning, where there is space.
    fn begin_log_again(&self) {
        if let Err(error) = room::checkpoint(&self.connection) {
            tracing::debug!(%error, "failed to checkpoint the write-ahead log");
        }
    }

    /// Restores the reserve for a full disk, if it was used.
    fn keep_room(&mut self) {
        let Some(disk) = self.disk.as_ref() else { return };
        let is_taken = matches!(room::is_taken(&self.connection), Ok(true));
        let is_due = self.reserve_due.is_some_and(|due| due <= Instant::now());
        if !(is_taken || is_due) || disk.is_low() {
            return;
        }
        if is_taken && let Err(error) = room::make(&self.connection) {
            tracing::debug!(%error, "failed to reserve space in the database");
        }
        if is_due {
            self.reserve_due = (!disk.hold()).then(|| Instant::now() + RESERVE_PAUSE);
        }
    }

    /// Whether the disk lacks its reserve.
    pub fn lacks_reserve(&self) -> bool {
        self.reserve_due.is_some()
    }

    fn attempt(
        &mut self,
        batch: Vec<(Durability, Work)>,
        is_first: bool,
        answers: &mut Vec<Answer>,
    ) -> rusqlite::Result<()> {
        self.connection.execute_batch("BEGIN IMMEDIATE")?;
        let mut transaction = Transaction::new(&self.connection, self.version, self.clock.now(), &mut self.random);
        transaction.has_no_room = self.disk.as_ref().is_some_and(Disk::is_low);
        if is_first {
            self.controllers.load(&mut transaction);
        }
        for (_, work) in batch {
            // Work that panics is rolled back like work that fails. It has no outcome, and its caller gets an error
            // because the work was dropped.
            let outcome = transaction.part(work, |outcome| outcome.keep)?;
            if outcome.as_ref().is_some_and(|outcome| outcome.keep) {
                self.controllers.react(&mut transaction);
            }
            answers.extend(outcome.map(|outcome| outcome.answer));
        }
        self.controllers.wake(&mut transaction);
        let is_lasting = self.durability == Durability::Disk;
        // A transaction without writes doesn't sync earlier commits.
        let leaves_a_debt = transaction.must_last && self.hub.durable() < self.version;
        if transaction.version == self.version && !leaves_a_debt && self.health.check().is_ok() {
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
        self.health.works();
        self.version = version;
        if is_lasting {
            self.hub.is_durable_up_to(version);
        }
        // Only after the commit: watches must not see changes that may still be rolled back.
        self.hub.publish(changes, version);
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
