//! What is allowed at once, and what is said to the one that is too much.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use task::UserName;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::error::ApiError;
use crate::room::{Room, Rooms, Sender};
use crate::shares::{NoShare, Share, Shares};

/// The largest request body: scripts and variables of a megabyte each, with what JSON adds to them.
pub const MAX_BODY_BYTES: usize = 4 * 1024 * 1024;

/// The largest body that needs no room in the budget, and is parsed where it is read: most tasks are smaller, so that they never
/// wait for others.
pub const SMALL_BODY_BYTES: usize = 16 * 1024;

/// The most values of a JSON body. Each takes some hundred bytes in memory, and some in an error; a task has far fewer.
pub const MAX_BODY_VALUES: usize = 50_000;

/// How many bytes of larger bodies are read and parsed at once.
const BODIES_BYTES: usize = 32 * 1024 * 1024;

/// How many bytes of answers that are copies for one client wait for their clients to read them.
const COPIES_BYTES: usize = 64 * 1024 * 1024;

/// The largest answer that needs no room in that budget: as much as the buffer of every connection holds.
const SMALL_COPY_BYTES: usize = MAX_HEAD_BYTES;

/// How long a large body waits for room before its client is told to come again: others are read and parsed within seconds.
const ROOM_PATIENCE: Duration = Duration::from_secs(10);

/// How long a body may take to arrive; the time it waits for room is not counted.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a body that holds room may stand still, and how many bytes of it must come in a second on the whole: others need the room.
pub const STALL_TIMEOUT: Duration = Duration::from_secs(5);
pub const BODY_BYTES_PER_SECOND: usize = 64 * 1024;

/// How long the head of a request may take to arrive, and a connection may be idle.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a client may take to read more of an answer. What it has not read holds memory and a connection, of a stream, too; `k8s-cli` goes
/// on with a log where it was cut.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

/// How much it must read in that time while more waits for it. A byte now and then would keep all of it here.
pub const WRITE_BYTES: usize = 16 * 1024;

/// The largest head of a request: 64 KiB, more than any proxy passes on.
pub const MAX_HEAD_BYTES: usize = 64 * 1024;

/// The most headers of a request.
pub const MAX_HEADERS: usize = 100;

/// The most requests that change something at once. Each waits for Kubernetes, which queues them as well.
const MAX_CHANGES: usize = 512;

/// How long the log streams get to end when the server stops, before their connections are cut.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// The limits that depend on what happens now.
pub struct Limits {
    bodies: Rooms,
    copies: Rooms,
    changes: Arc<Semaphore>,
    streams: Shares<UserName>,
}

/// The right to hold a log stream.
pub struct StreamPermit {
    _share: Share<UserName>,
}

impl Limits {
    /// Limits for log streams, of all users and of each.
    #[must_use]
    pub fn new(max_streams: usize, max_streams_per_user: usize) -> Self {
        Self {
            bodies: Rooms::new(BODIES_BYTES),
            copies: Rooms::new(COPIES_BYTES),
            changes: Arc::new(Semaphore::new(MAX_CHANGES)),
            streams: Shares::new(max_streams, max_streams_per_user),
        }
    }

    /// Waits for room for a large body.
    pub async fn room_for_body(&self, sender: &Sender, bytes: usize) -> Result<Room, ApiError> {
        let taking = self.bodies.take(sender, bytes);
        let taken = timeout(ROOM_PATIENCE, taking).await.ok().flatten();
        taken.ok_or_else(|| ApiError::Busy("too many large requests at once; try again in a second".to_owned()))
    }

    /// Asks for room for an answer that is a copy; a small one needs none.
    pub fn room_for_copy(&self, sender: &Sender, bytes: usize) -> Result<Option<Room>, ApiError> {
        if bytes <= SMALL_COPY_BYTES {
            return Ok(None);
        }
        // The copy is there already, so nobody waits with it.
        let taken = self.copies.take(sender, bytes).now_or_never().flatten();
        let busy = || ApiError::Busy("too many large answers at once; read them, or try again in a second".to_owned());
        taken.map(Some).ok_or_else(busy)
    }

    /// Asks for the right to change something.
    pub fn change(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        let permit = Arc::clone(&self.changes).try_acquire_owned();
        permit.map_err(|_| ApiError::Busy("too many requests at once; try again in a second".to_owned()))
    }

    /// Asks for the right to hold a log stream.
    pub fn stream(&self, user: &UserName) -> Result<StreamPermit, ApiError> {
        let share = self.streams.take(user.clone()).map_err(|reason| match reason {
            NoShare::AllTaken => {
                ApiError::Busy("too many log streams at once; close one, or try again later".to_owned())
            }
            NoShare::OneHasMost => ApiError::TooMany(format!(
                "you have {} log streams open; close one first",
                self.streams.most_of_one()
            )),
        })?;
        metrics::gauge!("k8s_cli_log_followers").increment(1.0);
        Ok(StreamPermit { _share: share })
    }
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        metrics::gauge!("k8s_cli_log_followers").decrement(1.0);
    }
}
