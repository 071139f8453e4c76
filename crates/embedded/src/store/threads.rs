//! Works that are done by a thread, many in one transaction, and reads that are done by others, from one file.

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

/// How many works one transaction does: enough that a commit costs each of them little, few enough that the first need
/// not wait for long.
const BATCH: usize = 64;

/// How often a store that cannot be written is tried again.
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
    /// The store in a folder, and its window.
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
                // Without its writer the server could only look as if it worked. Its end is seen, and loses nothing.
                if catch_unwind(AssertUnwindSafe(|| run(writer, &receiver))).is_err() {
                    tracing::error!("the store's writer panicked, and the server ends");
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
        // A store that has stopped drops the work, and whoever asked sees that.
        let _ = self.works.send(Message::Do(durability, work));
    }

    /// Whether it can be written, and has room for more.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, limit: Duration) -> Result<(), Error> {
        // First, since a disk that does not answer would be waited for.
        self.health.check_pace(limit)?;
        self.health.check()?;
        self.file.database.disk().check()
    }

    /// Reads in a connection of its own, aside from the async threads.
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

/// Writes what comes, and lets the controllers do what is due.
fn run(mut writer: Writer, works: &Receiver<Message>) {
    writer.transact(Vec::new(), true);
    loop {
        // The time of day of this thread: it is in no runtime, so that no paused clock drives it.
        let wait = writer
            .next_wake()
            .map(|time| time.saturating_duration_since(Instant::now()));
        let first = match wait {
            // Nobody may be writing: whether it works again, and whether there is room again, has to be found out.
            _ if writer.health().check().is_err() || writer.lacks_reserve() => {
                works.recv_timeout(PROBE.min(wait.unwrap_or(PROBE)))
            }
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
        writer.transact(batch, false);
        if stop {
            return;
        }
    }
}
