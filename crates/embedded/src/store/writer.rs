//! The one writer: it does works in one transaction, shows their changes to the controllers, and then answers.

use std::sync::Arc;

use clock::Clock;
use rusqlite::Connection;
use tokio::time::Instant;

use super::hub::Hub;
use super::transaction::Transaction;
use crate::controllers::Controllers;
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
        };
        Ok((writer, hub))
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
        let durability = batch.iter().map(|(durability, _)| *durability).max();
        self.set_durability(durability.unwrap_or(Durability::Process));
        let mut answers = Vec::new();
        let committed = self.attempt(batch, is_first, &mut answers);
        if let Err(error) = &committed {
            // It may be that there is no transaction to be undone.
            let _ = self.connection.execute_batch("ROLLBACK");
            tracing::error!(%error, "a transaction failed; what waited for it is refused");
            // They have seen changes that are none.
            self.controllers.forget();
        }
        for answer in answers {
            answer(match &committed {
                Ok(()) => Ok(()),
                Err(_) => Err(Refusal::internal("the database could not be written")),
            });
        }
    }

    fn attempt(
        &mut self,
        batch: Vec<(Durability, Work)>,
        is_first: bool,
        answers: &mut Vec<Answer>,
    ) -> rusqlite::Result<()> {
        self.connection.execute_batch("BEGIN IMMEDIATE")?;
        let mut transaction = Transaction::new(&self.connection, self.version, self.clock.now(), &mut self.random);
        if is_first {
            self.controllers.load(&mut transaction);
        }
        for (_, work) in batch {
            let mark = (transaction.version, transaction.changes.len());
            transaction.savepoint("SAVEPOINT work")?;
            let outcome = work(&mut transaction);
            if outcome.keep {
                self.controllers.react(&mut transaction);
            } else {
                transaction.savepoint("ROLLBACK TO work")?;
                transaction.version = mark.0;
                transaction.changes.truncate(mark.1);
                transaction.unseen.clear();
            }
            transaction.savepoint("RELEASE work")?;
            answers.push(outcome.answer);
        }
        self.controllers.wake(&mut transaction);
        if transaction.version == self.version {
            return self.connection.execute_batch("COMMIT");
        }
        transaction.write_version()?;
        let (version, changes) = (transaction.version, transaction.changes);
        self.connection.execute_batch("COMMIT")?;
        self.version = version;
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
