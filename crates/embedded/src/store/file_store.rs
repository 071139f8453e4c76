//! The store in a file: one thread writes in batches, others read.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use clock::Clock;
use rusqlite::Connection;
use tokio::time::Instant;

use super::database::{self, Database};
use super::health::WriterHealth;
use super::hooks::TransactionHooks;
use super::reader::ConnectionPool;
use super::watch_cache::WatchCache;
use super::writer::{Durability, Work, Writer};
use crate::blocking::BlockingPool;
use crate::error::Error;
use crate::random::Random;
use crate::status_error::StatusError;

/// Maximum number of work items per transaction: enough to spread the cost of a commit, and few enough that the first
/// one doesn't wait long.
const MAX_BATCH: usize = 64;

/// How often to retry while the store is not writable.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

enum Command {
    Write(Durability, Work),
    Stop,
}

pub(super) struct FileStore {
    commands: Sender<Command>,
    thread: Mutex<Option<JoinHandle<()>>>,
    file: Arc<File>,
    health: Arc<WriterHealth>,
    blocking_pool: BlockingPool,
}

struct File {
    reader: ConnectionPool,
    database: Database,
}

impl FileStore {
    /// Opens the store in a state directory, and creates its watch cache.
    pub(crate) fn open(dir: &Path, hooks: Box<dyn TransactionHooks>) -> Result<(Self, Arc<WatchCache>), Error> {
        let database = Database::open(dir)?;
        let connection = database.connect()?;
        let (mut writer, watch_cache) = Writer::new(connection, hooks, Clock::system(), Random::default())
            .map_err(|source| database::error(dir, source))?;
        writer.set_lock(Arc::clone(database.lock()));
        writer.set_disk(database.disk().clone());
        let health = writer.health();
        let (commands, receiver) = channel();
        let thread = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || {
                // Without its writer, the server would only appear to work. Aborting is noticed, and loses no committed
                // data.
                if catch_unwind(AssertUnwindSafe(|| run(writer, &receiver))).is_err() {
                    tracing::error!("the store's writer panicked; aborting the server");
                    std::process::abort();
                }
            })
            .map_err(|source| Error::StateDir {
                path: dir.to_owned(),
                source,
            })?;
        let file_store = Self {
            commands,
            thread: Some(thread).into(),
            file: Arc::new(File {
                reader: ConnectionPool::default(),
                database,
            }),
            health,
            blocking_pool: BlockingPool::default(),
        };
        Ok((file_store, watch_cache))
    }

    pub(crate) fn write(&self, durability: Durability, work: Work) {
        // If the store has stopped, the work is dropped, and its caller gets an error.
        let _ = self.commands.send(Command::Write(durability, work));
    }

    pub(crate) fn check(&self, limit: Duration) -> Result<(), Error> {
        // First, since asking a disk that hangs for its free space would hang as well.
        self.health.check_stalled(limit)?;
        self.file.database.lock().check()?;
        self.health.check()?;
        self.file.database.disk().check()
    }

    /// Reads off the async threads, on a connection other than the writer's.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StatusError> + Send + 'static,
    ) -> Result<T, StatusError> {
        let file = Arc::clone(&self.file);
        let done = self
            .blocking_pool
            .run(move || file.reader.with(|| file.database.connect(), work));
        done.await.map_err(StatusError::internal)?
    }

    pub(crate) fn close(&self) {
        let _ = self.commands.send(Command::Stop);
        let thread = self.thread.lock().ok().and_then(|mut thread| thread.take());
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

/// The writer's loop: commits work in batches, and wakes the controllers.
fn run(mut writer: Writer, commands: &Receiver<Command>) {
    writer.transact(Vec::new(), true);
    loop {
        // This thread is outside of any runtime, so tokio's `Instant` is real time, even where tests pause tokio's
        // clock.
        let wait = writer
            .next_timer()
            .map(|time| time.saturating_duration_since(Instant::now()));
        let first = match wait {
            // Probe regularly: without other writes, nothing would notice that the disk works, or has space, again.
            _ if writer.health().check().is_err() || writer.lacks_reserve() => {
                commands.recv_timeout(PROBE_INTERVAL.min(wait.unwrap_or(PROBE_INTERVAL)))
            }
            // Platforms differ in the longest timeout that they support. Waking up early does no harm.
            Some(wait) => commands.recv_timeout(wait.min(Duration::from_secs(3600))),
            None => commands.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        let mut batch = Vec::new();
        match first {
            Ok(Command::Write(durability, work)) => batch.push((durability, work)),
            Ok(Command::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {}
        }
        let mut stop = false;
        // Work that queued up during the last commit shares the next one.
        while batch.len() < MAX_BATCH {
            match commands.try_recv() {
                Ok(Command::Write(durability, work)) => batch.push((durability, work)),
                Ok(Command::Stop) => {
                    stop = true;
                    break;
                }
                Err(_) => break,
            }
        }
        writer.transact(batch, false);
        if stop {
            return;
        }
    }
}
