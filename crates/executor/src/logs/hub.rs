//! Shares one upstream stream per followed pod among all its followers.
//!
//! The kubelet uses one inotify instance for each stream that follows a log, and Linux allows only 128 per user by
//! default.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::chunk::Style;
use super::position::Position;
use super::ring::{Cursor, Ring};
use super::upstream::{Interruption, Part, Reader, Source};
use crate::backoff::Backoff;
use crate::cache::{Cache, TaskKey};
use crate::kubernetes::Calls;

/// The pauses after a stream was interrupted.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How much later than its log a pod may end before the log is opened again.
const END_PATIENCE: Duration = Duration::from_secs(2);

/// How often the log of an ended pod is tried. If it is not there, waiting does not help.
const TRIES_AFTER_END: u32 = 4;

/// A pod whose log is read.
#[derive(Debug, Clone)]
pub(super) struct Followed {
    pub key: Arc<TaskKey>,
    pub uid: String,
    /// What to read, and in which style.
    pub source: Source,
}

/// How many followers may open a log concurrently. Hundreds may arrive at once, and must not starve other requests.
const OPENING: usize = 4;

/// The open streams.
pub(super) struct Hubs {
    open: Mutex<HashMap<String, Weak<Hub>>>,
    opening: Semaphore,
}

impl Default for Hubs {
    fn default() -> Self {
        Self {
            open: Mutex::default(),
            opening: Semaphore::new(OPENING),
        }
    }
}

/// The stream of one pod. It ends when its last follower drops its share.
struct Hub {
    ring: Arc<Ring>,
    _stop: DropGuard,
}

/// A follower's share of a stream.
pub(super) struct Share {
    /// The follower's place in the ring.
    pub cursor: Cursor,
    _hub: Arc<Hub>,
}

impl Hubs {
    /// Joins the stream of a pod at `position`, or starts it there. Returns `None` if the stream has moved past
    /// `position`.
    pub fn join(&self, calls: &Calls, cache: &Arc<Cache>, pod: &Followed, position: Position) -> Option<Share> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(hub) = open.get(&pod.uid).and_then(Weak::upgrade) {
            return Some(Share {
                cursor: hub.ring.follow(position)?,
                _hub: hub,
            });
        }
        open.retain(|_, hub| hub.strong_count() > 0);
        let stop = CancellationToken::new();
        let ring = Ring::new(position);
        let cursor = ring.follow(position)?;
        let hub = Arc::new(Hub {
            ring: Arc::clone(&ring),
            _stop: stop.clone().drop_guard(),
        });
        open.insert(pod.uid.clone(), Arc::downgrade(&hub));
        metrics::gauge!("k8s_cli_log_streams").increment(1.0);
        let upstream = Upstream {
            calls: calls.clone(),
            cache: Arc::clone(cache),
            pod: pod.clone(),
            ring,
        };
        tokio::spawn(async move {
            stop.run_until_cancelled(upstream.run(position)).await;
            metrics::gauge!("k8s_cli_log_streams").decrement(1.0);
        });
        Some(Share { cursor, _hub: hub })
    }

    /// Waits for a permit to open a log.
    pub async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        // The semaphore is never closed.
        self.opening.acquire().await.ok()
    }

    /// Whether a follower at `position` can join an open stream.
    pub fn covers(&self, uid: &str, position: Position) -> bool {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let hub = open.get(uid).and_then(Weak::upgrade);
        hub.is_some_and(|hub| hub.ring.follow(position).is_some())
    }
}

/// Reads the log of one pod into its ring.
struct Upstream {
    calls: Calls,
    cache: Arc<Cache>,
    pod: Followed,
    ring: Arc<Ring>,
}

impl Upstream {
    /// Reads until the pod has ended and its whole log was read. A response is known to be complete only if it began
    /// after the pod had ended, and ends without an error.
    async fn run(self, position: Position) {
        let end = self.read_to_end(position).await;
        self.ring.close(end);
    }

    async fn read_to_end(&self, mut position: Position) -> Result<(), Arc<str>> {
        let mut pauses = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        let mut tries = 0;
        loop {
            let ended = self.has_ended();
            let before = position;
            match self.read(&mut position, ended).await {
                Ok(()) if ended => return Ok(()),
                Ok(()) => self.wait_for_end().await,
                Err(interruption) if interruption.is_gone() => return Ok(()),
                Err(interruption) => {
                    tracing::debug!(pod = self.pod.source.pod, %interruption, "a log stream was interrupted");
                    tries += u32::from(ended);
                    if tries == TRIES_AFTER_END || interruption.is_permanent() {
                        return Err(interruption.to_string().into());
                    }
                    sleep(pauses.next()).await;
                }
            }
            if position > before {
                pauses.reset();
            }
        }
    }

    async fn read(&self, position: &mut Position, ended: bool) -> Result<(), Interruption> {
        let part = Part {
            from: *position,
            tail: None,
            follow: !ended,
        };
        let mut reader = Reader::open(&self.calls, &self.pod.source, part).await?;
        while let Some(chunk) = reader.next(self.ring.pace()).await? {
            *position = reader.position();
            self.ring.push(chunk).await;
        }
        if ended && let Some(chunk) = reader.finish()? {
            self.ring.push(chunk).await;
        }
        Ok(())
    }

    /// Whether the pod has ended or is gone.
    fn has_ended(&self) -> bool {
        self.cache.pod_ended(&self.pod.key, &self.pod.uid).unwrap_or(true)
    }

    /// Waits for the pod to end, which usually shows shortly after the end of its log.
    async fn wait_for_end(&self) {
        let waiting = async {
            while let Some(mut changes) = self.cache.follow(&self.pod.key) {
                if self.has_ended() || changes.changed().await.is_err() {
                    return;
                }
            }
        };
        let _ = timeout(END_PATIENCE, waiting).await;
    }
}

/// The style that most followers use, so that chunks can be rendered once for all of them.
pub(super) fn common_style(rank: u32, num_nodes: u32, attempt: u32) -> Style {
    let prefix = match (num_nodes > 1, attempt > 1) {
        (false, false) => String::new(),
        (true, false) => format!("node-{rank} | "),
        (false, true) => format!("attempt-{attempt} | "),
        (true, true) => format!("node-{rank} attempt-{attempt} | "),
    };
    Style {
        prefix,
        timestamps: false,
    }
}
