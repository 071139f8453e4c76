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
use super::health::Health;
use super::hub::Hub;
use super::reader::Reader;
use super::writer::{Durability, Work, Writer};
use crate::aside::Aside;
use crate::controllers::Controllers;
use crate::error::Error;
use crate::random::Random;
use crate::refusal::Refusal;

/// Maximum number of work items per transaction: enough to spread the cost of a commit, and few enough that the first
/// one doesn't wait long.
const BATCH: usize = 64;

/// How often to retry while the store is not writable.
const PROBE: Duration = Duration::from_secs(1);

enum Message {
    Do(Durability, Work),
    Stop,
}

pub(super) struct Threads {
    works: Sender<Message>,
    thread: Mutex<Option<JoinHandle<()>>>,
    file: Arc<File>,
    health: Arc<Health>,
    aside: Aside,
}

struct File {
    reader: Reader,
    database: Database,
}

impl Threads {
    /// Opens the store in a state directory, and creates its hub.
    pub fn open(folder: &Path, controllers: Controllers) -> Result<(Self, Arc<Hub>), Error> {
        let database = Database::open(folder)?;
        let connection = database.connect()?;
        let (mut writer, hub) = Writer::new(connection, controllers, Clock::system(), Random::default())
            .map_err(|source| database::error(folder, source))?;
        writer.stand_on(database.disk().clone());
        let health = writer.health();
        let (works, receiver) = channel();
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
            .map_err(|source| Error::StateFolder {
                path: folder.to_owned(),
                source,
            })?;
        let threads = Self {
            works,
            thread: Some(thread).into(),
            file: Arc::new(File {
                reader: Reader::default(),
                database,
            }),
            health,
            aside: Aside::default(),
        };
        Ok((threads, hub))
    }

    pub fn write(&self, durability: Durability, work: Work) {
        // If the store has stopped, the work is dropped, and its caller gets an error.
        let _ = self.works.send(Message::Do(durability, work));
    }

    pub fn check(&self, limit: Duration) -> Result<(), Error> {
        // First, since asking a disk that hangs for its free space would hang as well.
        self.health.check_pace(limit)?;
        self.health.check()?;
        self.file.database.disk().check()
    }

    /// Reads off the async threads, on a connection other than the writer's.
    pub async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let file = Arc::clone(&self.file);
        let done = self
            .aside
            .run(move || file.reader.with(|| file.database.connect(), work));
        done.await.map_err(Refusal::internal)?
    }

    pub fn close(&self) {
        let _ = self.works.send(Message::Stop);
        let thread = self.thread.lock().ok().and_then(|mut thread| thread.take());
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

/// The writer's loop: commits work in batches, and wakes the controllers.
fn run(mut writer: Writer, works: &Receiver<Message>) {
    writer.transact(Vec::new(), true);
    loop {
        // This thread is outside of any runtime, so tokio's `Instant` is real time, even where tests pause tokio's
        // clock.
        let wait = writer
            .next_wake()
            .map(|time| time.saturating_duration_since(Instant::now()));
        let first = match wait {
            // Probe regularly: without other writes, nothing would notice that the disk works, or has space, again.
            _ if writer.health().check().is_err() || writer.lacks_reserve() => {
                works.recv_timeout(PROBE.min(wait.unwrap_or(PROBE)))
            }
            // Platforms differ in the longest timeout that they support. Waking up early does no harm.
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
        // Work that queued up during the last commit shares the next one.
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
        writer.transact(batch, false);
        if stop {
            return;
        }
    }
}
