//! The one writer: it does works in one transaction, shows their changes to the controllers, and then answers.

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

/// What a power cut may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// What tells of processes, which do not survive a power cut either.
    Process,
    /// Nothing: what a client was told is on the disk.
    Disk,
}

/// How long after a try to make the reserve the next one comes: each may write as much as the disk takes.
const RESERVE_PAUSE: Duration = Duration::from_secs(1);

pub(super) type Work = Box<dyn FnOnce(&mut Transaction<'_>) -> Outcome + Send>;

/// Tells who asked whether it was committed.
pub(super) type Answer = Box<dyn FnOnce(Result<(), Refusal>) + Send>;

/// Whether what was done shall stay, and what to say when it does, or does not.
pub(super) struct Outcome {
    pub keep: bool,
    pub answer: Answer,
}

pub(super) struct Writer {
    connection: Connection,
    controllers: Controllers,
    hub: Arc<Hub>,
    version: i64,
    /// How the connection is set.
    durability: Durability,
    clock: Clock,
    random: Random,
    health: Arc<Health>,
    /// The disk, when it is on one.
    disk: Option<Disk>,
    /// When the disk is to have its reserve again, if it lacks that.
    reserve_due: Option<Instant>,
}

impl Writer {
    /// A writer of what a connection leads to, and the window on what it does.
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

    /// From here on it keeps room on this disk.
    pub fn stand_on(&mut self, disk: Disk) {
        if disk.is_low() {
            self.begin_log_again();
        } else if let Err(error) = room::make(&self.connection) {
            tracing::warn!(%error, "no room can be kept in the database for the case that the disk is full");
        }
        self.reserve_due = (!disk.hold()).then(Instant::now);
        self.disk = Some(disk);
    }

    /// What its transactions have shown.
    pub fn health(&self) -> Arc<Health> {
        Arc::clone(&self.health)
    }

    /// When the controllers have something to do.
    pub fn next_wake(&self) -> Option<Instant> {
        self.controllers.next_wake()
    }

    /// For reads between two transactions.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// One transaction: all works, what the controllers do about them, and what the controllers wanted to do by now.
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
                Err(_) => Err(Refusal::internal("the database could not be written")),
            });
        }
        // Nobody waits for this.
        if committed.is_ok() {
            self.keep_room();
        }
        self.health.ends();
    }

    /// After a transaction that failed.
    fn undo(&mut self, error: &rusqlite::Error) {
        if self.health.check().is_ok() {
            tracing::error!(%error, "a transaction failed; what waited for it is refused");
        }
        self.health.failed(error.to_string());
        // It may be that there is no transaction to be undone.
        let _ = self.connection.execute_batch("ROLLBACK");
        // They have seen changes that are none.
        self.controllers.forget();
        // Whether or not it looks full: a quota is a limit that the file system does not tell of.
        if let Some(disk) = &self.disk {
            disk.release();
            self.reserve_due = Some(Instant::now());
            self.begin_log_again();
        }
    }

    /// What is in the write-ahead log goes to its place, and the next transaction begins at the log's start, where there is room.
    fn begin_log_again(&self) {
        if let Err(error) = room::checkpoint(&self.connection) {
            tracing::debug!(%error, "the write-ahead log cannot be emptied");
        }
    }

    /// Renews the room that is kept for a full disk.
    fn keep_room(&mut self) {
        let Some(disk) = self.disk.as_ref() else { return };
        let is_taken = matches!(room::is_taken(&self.connection), Ok(true));
        let is_due = self.reserve_due.is_some_and(|due| due <= Instant::now());
        if !(is_taken || is_due) || disk.is_low() {
            return;
        }
        if is_taken && let Err(error) = room::make(&self.connection) {
            tracing::debug!(%error, "no room can be kept in the database");
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
            // One that panics is undone like one that is refused; whoever asked hears that it was dropped.
            let outcome = transaction.part(work, |outcome| outcome.keep)?;
            if outcome.as_ref().is_some_and(|outcome| outcome.keep) {
                self.controllers.react(&mut transaction);
            }
            answers.extend(outcome.map(|outcome| outcome.answer));
        }
        self.controllers.wake(&mut transaction);
        let is_lasting = self.durability == Durability::Disk;
        // A transaction that writes nothing puts nothing on the disk of what was written before, either.
        let leaves_a_debt = transaction.must_last && self.hub.durable() < self.version;
        if transaction.version == self.version && !leaves_a_debt && self.health.check().is_ok() {
            return self.connection.execute_batch("COMMIT");
        }
        if transaction.version == self.version {
            // SQLite writes nothing that is the same as before: then nothing would be synced, and nothing shown of a store that may work
            // again.
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
            Err(error) => tracing::warn!(%error, "the durability of the database cannot be set"),
        }
    }
}
