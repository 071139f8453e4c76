//! The one writer: a thread that does what waits for it in one transaction, and then answers.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::database::Database;
use super::hub::Hub;
use super::reader::Reader;
use super::transaction::Transaction;
use crate::aside::Aside;
use crate::controllers::Controllers;
use crate::error::Error;
use crate::refusal::Refusal;

/// How many works one transaction does: enough that a commit costs each of them little, few enough that the first need
/// not wait for long.
const BATCH: usize = 64;

/// What a power cut may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// What tells of processes, which do not survive a power cut either.
    Process,
    /// Nothing: what a client was told is on the disk.
    Disk,
}

type Work = Box<dyn FnOnce(&mut Transaction<'_>) -> Outcome + Send>;

/// Tells who asked whether it was committed.
type Answer = Box<dyn FnOnce(Result<(), Refusal>) + Send>;

/// Whether what was done shall stay, and what to say when it does, or does not.
struct Outcome {
    keep: bool,
    answer: Answer,
}

enum Message {
    Do(Durability, Work),
    Stop,
}

/// The store of all objects.
pub struct Store {
    works: Sender<Message>,
    thread: std::sync::Mutex<Option<JoinHandle<()>>>,
    hub: Arc<Hub>,
    reader: Reader,
    aside: Aside,
    database: Database,
}

impl Store {
    /// Opens the store in a folder, and lets the controllers do what was left undone.
    ///
    /// # Errors
    /// The folder is in use, or cannot be used.
    pub fn open(folder: &Path, controllers: Controllers) -> Result<Self, Error> {
        let database = Database::open(folder)?;
        let connection = database.connect()?;
        let version = connection
            .query_row("SELECT value FROM meta WHERE name = 'version'", [], |row| row.get(0))
            .map_err(|source| Error::Database {
                path: folder.to_owned(),
                source,
            })?;
        let hub = Arc::new(Hub::new(version));
        let (works, receiver) = channel();
        let writer = Writer {
            connection,
            controllers,
            hub: Arc::clone(&hub),
            version,
            durability: Durability::Disk,
        };
        let thread = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || writer.run(&receiver))
            .map_err(|source| Error::StateFolder {
                path: folder.to_owned(),
                source,
            })?;
        Ok(Self {
            works,
            thread: Some(thread).into(),
            hub,
            reader: Reader::default(),
            aside: Aside::default(),
            database,
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
        let stopped = || Refusal::internal("the database could not be written, or the store has stopped");
        self.works.send(Message::Do(durability, work)).map_err(|_| stopped())?;
        receiver.await.map_err(|_| stopped())?
    }

    /// Reads in a connection of its own, aside from the async threads.
    ///
    /// # Errors
    /// What `work` gives; an internal error when the database cannot be read.
    pub async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Connection) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let store = Arc::clone(self);
        let done = self
            .aside
            .run(move || store.reader.with(|| store.database.connect(), work));
        done.await.map_err(Refusal::internal)?
    }

    /// Ends the writer when it has done what waits for it.
    pub fn close(&self) {
        let _ = self.works.send(Message::Stop);
        let thread = self.thread.lock().ok().and_then(|mut thread| thread.take());
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

struct Writer {
    connection: Connection,
    controllers: Controllers,
    hub: Arc<Hub>,
    version: i64,
    /// How the connection is set.
    durability: Durability,
}

impl Writer {
    fn run(mut self, works: &Receiver<Message>) {
        self.transact(Vec::new(), true);
        loop {
            let wait = self
                .controllers
                .next_wake()
                .map(|time| time.saturating_duration_since(Instant::now()));
            let first = match wait {
                // Timers may be far away; a bound keeps the arithmetic of the platform out of the game.
                Some(wait) => works.recv_timeout(wait.min(Duration::from_secs(3600))),
                None => works.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            let mut batch = Vec::new();
            match first {
                Ok(Message::Do(durability, work)) => batch.push((durability, work)),
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {}
            }
            let mut stop = false;
            while batch.len() < BATCH {
                match works.try_recv() {
                    Ok(Message::Do(durability, work)) => batch.push((durability, work)),
                    Ok(Message::Stop) => {
                        stop = true;
                        break;
                    }
                    Err(_) => break,
                }
            }
            self.transact(batch, false);
            if stop {
                return;
            }
        }
    }

    /// One transaction: all works, what the controllers do about them, and what the controllers wanted to do by now.
    fn transact(&mut self, batch: Vec<(Durability, Work)>, is_first: bool) {
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
        let mut transaction = Transaction::new(&self.connection, self.version);
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
