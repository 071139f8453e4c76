//! Shares one upstream stream per followed pod among all its followers.
//!
//! The kubelet uses one inotify instance for each stream that follows a log, and Linux allows only 128 per user by
//! default.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use archive::{LogKey, RecordKey};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::chunk::{Chunk, LineStyle};
use super::position::LogPosition;
use super::reader::{LogReader, LogSource, ReadError, ReadRange};
use super::ring::{LogEnd, Ring, RingCursor};
use crate::backoff::Backoff;
use crate::cache::{Cache, NodePod, TaskKey};
use crate::kubernetes::{ApiClient, ObjectRef};

/// The pauses after a stream was interrupted.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How much later than its log a pod may end before the log is opened again.
const END_PATIENCE: Duration = Duration::from_secs(2);

/// How often the log of an ended pod is tried. If it is not there, waiting does not help.
const TRIES_AFTER_END: u32 = 4;

/// A pod whose log is read.
#[derive(Debug, Clone)]
pub(crate) struct PodLog {
    pub key: Arc<TaskKey>,
    pub uid: String,
    /// What to read, and in which style.
    pub source: LogSource,
    /// Where it is in the archive.
    pub archived: LogKey,
    /// Whether the pod is known to be gone.
    pub is_gone: bool,
}

impl PodLog {
    /// The pod of a node of a task with this many nodes.
    pub(crate) fn of_node(
        task: &Arc<TaskKey>,
        record: &RecordKey,
        num_nodes: u32,
        node: &NodePod,
        pod: &ObjectRef,
    ) -> Self {
        let archived = LogKey {
            task: record.clone(),
            rank: node.rank,
            attempt: node.attempt,
            created_at: node.pod_created_at,
            pod: pod.uid.clone(),
        };
        let mut log = Self::archived(task, num_nodes, archived);
        log.source.pod.clone_from(&pod.name);
        log.is_gone = false;
        log
    }

    /// A pod that is gone.
    pub(crate) fn archived(task: &Arc<TaskKey>, num_nodes: u32, archived: LogKey) -> Self {
        Self {
            key: Arc::clone(task),
            uid: archived.pod.clone(),
            source: LogSource {
                pod: String::new(),
                style: common_style(archived.rank, num_nodes, archived.attempt),
                shows_partial_lines: num_nodes == 1,
            },
            archived,
            is_gone: true,
        }
    }
}

/// How many followers may open a log concurrently. Hundreds may arrive at once, and must not starve other requests.
const MAX_OPENING: usize = 4;

/// The open streams.
pub(crate) struct SharedStreams {
    open: Mutex<HashMap<String, Weak<SharedStream>>>,
    opening: Semaphore,
}

impl Default for SharedStreams {
    fn default() -> Self {
        Self {
            open: Mutex::default(),
            opening: Semaphore::new(MAX_OPENING),
        }
    }
}

/// The stream of one pod. It ends when its last follower drops its share.
struct SharedStream {
    ring: Arc<Ring>,
    _stop: DropGuard,
}

/// A follower's share of a stream.
pub(crate) struct Subscription {
    /// The follower's place in the ring.
    pub cursor: RingCursor,
    _stream: Arc<SharedStream>,
}

impl SharedStreams {
    /// Joins the stream of a pod at `position`, or starts it there. Returns `None` if the stream has moved past
    /// `position`.
    pub(crate) fn join(
        &self,
        client: &ApiClient,
        cache: &Arc<Cache>,
        pod: &PodLog,
        position: LogPosition,
    ) -> Option<Subscription> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(stream) = open.get(&pod.uid).and_then(Weak::upgrade) {
            return Some(Subscription {
                cursor: stream.ring.follow(position)?,
                _stream: stream,
            });
        }
        open.retain(|_, stream| stream.strong_count() > 0);
        let stop = CancellationToken::new();
        let ring = Ring::new(position);
        let cursor = ring.follow(position)?;
        let stream = Arc::new(SharedStream {
            ring: Arc::clone(&ring),
            _stop: stop.clone().drop_guard(),
        });
        open.insert(pod.uid.clone(), Arc::downgrade(&stream));
        metrics::gauge!("k8s_cli_log_streams").increment(1.0);
        let upstream = StreamTask {
            client: client.clone(),
            cache: Arc::clone(cache),
            pod: pod.clone(),
            ring,
        };
        tokio::spawn(async move {
            stop.run_until_cancelled(upstream.run(position)).await;
            metrics::gauge!("k8s_cli_log_streams").decrement(1.0);
        });
        Some(Subscription {
            cursor,
            _stream: stream,
        })
    }

    /// Waits for a permit to open a log.
    pub(crate) async fn acquire_open_permit(&self) -> Option<SemaphorePermit<'_>> {
        // The semaphore is never closed.
        self.opening.acquire().await.ok()
    }

    /// Whether a follower at `position` can join an open stream.
    pub(crate) fn covers(&self, uid: &str, position: LogPosition) -> bool {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let stream = open.get(uid).and_then(Weak::upgrade);
        stream.is_some_and(|stream| stream.ring.follow(position).is_some())
    }
}

/// Reads the log of one pod into its ring.
struct StreamTask {
    client: ApiClient,
    cache: Arc<Cache>,
    pod: PodLog,
    ring: Arc<Ring>,
}

impl StreamTask {
    /// Reads until the pod has ended and its whole log was read. A response is known to be complete only if it began
    /// after the pod had ended, and ends without an error.
    async fn run(self, position: LogPosition) {
        let end = self.read_to_end(position).await;
        self.ring.close(end);
    }

    async fn read_to_end(&self, mut position: LogPosition) -> LogEnd {
        let mut pauses = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        let mut tries = 0;
        // Whether the last response ended as the log of a container that has ended does.
        let mut is_clean = false;
        // What it held back of a line without an end. Usually, the next response has it, too.
        let mut last: Option<Chunk> = None;
        loop {
            let ended = self.has_ended();
            let before = position;
            match self.read(&mut position, ended).await {
                Ok(_) if ended => {
                    // The kubelet may have deleted the log of a pod that is being deleted.
                    if let Some(last) = last.filter(|last| last.after() > position) {
                        self.ring.push(last).await;
                    }
                    return LogEnd::Complete;
                }
                Ok(rest) => {
                    is_clean = true;
                    last = rest;
                    self.wait_for_end().await;
                }
                Err(error) if error.is_gone() && is_clean => {
                    if let Some(last) = last {
                        self.ring.push(last).await;
                    }
                    return LogEnd::Complete;
                }
                Err(error) if error.is_gone() => return LogEnd::Gone,
                Err(error) => {
                    is_clean = false;
                    tracing::debug!(pod = self.pod.source.pod, %error, "a log stream was interrupted");
                    tries += u32::from(ended);
                    if tries == TRIES_AFTER_END || error.is_permanent() {
                        return LogEnd::Cut(error.to_string().into());
                    }
                    sleep(pauses.next()).await;
                }
            }
            if position > before {
                pauses.reset();
            }
        }
    }

    /// Returns what is left of a line at the end of the response, unless it was passed on.
    async fn read(&self, position: &mut LogPosition, ended: bool) -> Result<Option<Chunk>, ReadError> {
        let range = ReadRange {
            from: *position,
            tail: None,
            follow: !ended,
        };
        let mut reader = LogReader::open(&self.client, &self.pod.source, range).await?;
        while let Some(chunk) = reader.next(self.ring.pace()).await? {
            *position = reader.position();
            self.ring.push(chunk).await;
        }
        let rest = reader.finish()?;
        match rest {
            Some(chunk) if ended => {
                *position = reader.position();
                self.ring.push(chunk).await;
                Ok(None)
            }
            rest => Ok(rest),
        }
    }

    /// Whether the pod has ended or is gone.
    fn has_ended(&self) -> bool {
        self.cache.pod_ended(&self.pod.key, &self.pod.uid).unwrap_or(true)
    }

    /// Waits for the pod to end, which usually shows shortly after the end of its log.
    async fn wait_for_end(&self) {
        let waiting = async {
            while let Some(mut changes) = self.cache.subscribe(&self.pod.key) {
                if self.has_ended() || changes.changed().await.is_err() {
                    return;
                }
            }
        };
        let _ = timeout(END_PATIENCE, waiting).await;
    }
}

/// The style that most followers use, so that chunks can be rendered once for all of them.
pub(crate) fn common_style(rank: u32, num_nodes: u32, attempt: u32) -> LineStyle {
    let prefix = match (num_nodes > 1, attempt > 1) {
        (false, false) => String::new(),
        (true, false) => format!("node-{rank} | "),
        (false, true) => format!("attempt-{attempt} | "),
        (true, true) => format!("node-{rank} attempt-{attempt} | "),
    };
    LineStyle {
        prefix,
        timestamps: false,
    }
}
