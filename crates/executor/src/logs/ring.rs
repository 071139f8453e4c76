//! The newest chunks of a pod's log, which any number of followers read at their own speed.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::checkpoints::{Checkpoint, Checkpoints};
use super::chunk::{Chunk, StreamPlace};
use super::position::LogPosition;

/// The most bytes kept. A follower that falls further behind reads the log on its own until it has caught up.
const CAPACITY: usize = 512 * 1024;

/// How long a full ring waits for its slowest follower before it drops the chunk that the follower needs. This limits
/// how much a slow follower can delay the others.
const PATIENCE: Duration = Duration::from_millis(100);

/// With more than `CROWD` followers, output is collected for `PACE` per follower, up to `MAX_PACE`: each chunk wakes
/// all of them, and other requests must get their turn in between.
const CROWD: usize = 8;
const PACE: Duration = Duration::from_micros(200);
const MAX_PACE: Duration = Duration::from_millis(250);

/// A sliding window over a log.
pub(super) struct Ring {
    state: Mutex<RingState>,
    /// Notifies followers of a new chunk, or of the end.
    pushed: Notify,
    /// Notifies the writer that a follower has advanced.
    advanced: Notify,
}

struct RingState {
    chunks: VecDeque<KeptChunk>,
    /// How many bytes of the log were pushed.
    pushed_bytes: u64,
    /// Places in what was pushed since the last gap.
    checkpoints: Arc<Checkpoints>,
    /// The number of the oldest chunk kept, counting from 0.
    first: u64,
    size: usize,
    /// The position before the oldest chunk kept.
    start: LogPosition,
    end: Option<LogEnd>,
    /// The number of the next chunk of each follower.
    cursors: HashMap<u64, u64>,
    next_cursor: u64,
}

/// A chunk, and how many bytes of the log were pushed before it.
struct KeptChunk {
    chunk: Arc<Chunk>,
    offset: u64,
}

impl KeptChunk {
    /// The place after the chunk.
    fn end(&self) -> Checkpoint {
        Checkpoint {
            position: self.chunk.after(),
            offset: self.offset + self.chunk.bytes_after(LogPosition::START),
        }
    }
}

/// A follower's place in a ring.
pub(crate) struct RingCursor {
    ring: Arc<Ring>,
    id: u64,
    /// Where the follower joined, if the stream has no gap behind that.
    pub joined_at: Option<StreamPlace>,
}

/// What a follower gets next.
pub(crate) enum RingItem {
    Chunk(Arc<Chunk>),
    /// The ring has dropped a chunk that the follower needs.
    Behind,
    /// The follower has read everything.
    Ended(LogEnd),
}

/// How the log of a pod ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LogEnd {
    /// Everything was read.
    Complete,
    /// The pod is gone, and perhaps a part of its log with it.
    Gone,
    /// The rest cannot be read.
    Cut(Arc<str>),
}

impl Ring {
    /// An empty ring at `start`.
    pub(crate) fn new(start: LogPosition) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(RingState {
                chunks: VecDeque::new(),
                pushed_bytes: 0,
                checkpoints: Arc::default(),
                first: 0,
                size: 0,
                start,
                end: None,
                cursors: HashMap::new(),
                next_cursor: 0,
            }),
            pushed: Notify::new(),
            advanced: Notify::new(),
        })
    }

    /// Follows from `position`, or returns `None` if the ring has moved past it.
    pub(crate) fn follow(self: &Arc<Self>, position: LogPosition) -> Option<RingCursor> {
        let mut state = self.lock();
        if position < state.start {
            return None;
        }
        let read = state
            .chunks
            .iter()
            .take_while(|kept| kept.chunk.after() <= position)
            .count();
        let next = state.chunks.get(read);
        let unread = next.map_or(0, |kept| kept.chunk.bytes_after(position));
        let offset = next.map_or(state.pushed_bytes, |kept| kept.end().offset) - unread;
        let has_gap = state.chunks.iter().skip(read).any(|kept| kept.chunk.gap.is_some());
        let joined_at = (!has_gap).then(|| StreamPlace {
            stream: Arc::clone(&state.checkpoints),
            offset,
        });
        let id = state.next_cursor;
        let next = state.first + read as u64;
        state.next_cursor += 1;
        state.cursors.insert(id, next);
        Some(RingCursor {
            ring: Arc::clone(self),
            id,
            joined_at,
        })
    }

    /// Adds a chunk. If the ring is full, first waits a moment for slow followers.
    pub(crate) async fn push(&self, chunk: Chunk) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let advanced = self.advanced.notified();
            if !self.lock().would_overrun() {
                break;
            }
            if tokio::time::timeout_at(deadline, advanced).await.is_err() {
                break;
            }
        }
        self.lock().push(chunk);
        self.pushed.notify_waiters();
    }

    /// How long to collect output before pushing it.
    pub(crate) fn pace(&self) -> Duration {
        let followers = self.lock().cursors.len();
        if followers <= CROWD {
            return Duration::ZERO;
        }
        PACE.saturating_mul(u32::try_from(followers).unwrap_or(u32::MAX))
            .min(MAX_PACE)
    }

    /// Ends the log.
    pub(crate) fn close(&self, end: LogEnd) {
        self.lock().end = Some(end);
        self.pushed.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, RingState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RingState {
    /// Whether the next chunk would push out one that a follower still needs.
    fn would_overrun(&self) -> bool {
        self.size >= CAPACITY && self.cursors.values().any(|next| *next <= self.first)
    }

    fn push(&mut self, chunk: Chunk) {
        if chunk.gap.is_some() {
            // Nobody knows how many bytes lie between the places before it and those after it.
            self.checkpoints = Arc::default();
        }
        self.size += chunk.size();
        let kept = KeptChunk {
            chunk: Arc::new(chunk),
            offset: self.pushed_bytes,
        };
        self.pushed_bytes = kept.end().offset;
        self.checkpoints.push(kept.end());
        self.chunks.push_back(kept);
        while self.size > CAPACITY && self.chunks.len() > 1 {
            if let Some(oldest) = self.chunks.pop_front() {
                self.size -= oldest.chunk.size();
                self.start = oldest.chunk.after();
                self.first += 1;
            }
        }
        // Don't wait again for followers that have lost a chunk.
        let first = self.first;
        self.cursors.retain(|_, next| *next >= first);
    }
}

impl RingCursor {
    /// Waits for the next chunk. Cancel-safe.
    pub(crate) async fn next(&self) -> RingItem {
        loop {
            // Register before checking: a chunk pushed between the check and the wait would otherwise be missed.
            let pushed = self.ring.pushed.notified();
            tokio::pin!(pushed);
            pushed.as_mut().enable();
            if let Some(next) = self.try_next() {
                return next;
            }
            pushed.await;
        }
    }

    fn try_next(&self) -> Option<RingItem> {
        let mut state = self.ring.lock();
        let Some(next) = state.cursors.get(&self.id).copied() else {
            return Some(RingItem::Behind);
        };
        let index = usize::try_from(next - state.first).unwrap_or(usize::MAX);
        let Some(chunk) = state.chunks.get(index).map(|kept| Arc::clone(&kept.chunk)) else {
            return state.end.clone().map(RingItem::Ended);
        };
        state.cursors.insert(self.id, next + 1);
        drop(state);
        self.ring.advanced.notify_one();
        Some(RingItem::Chunk(chunk))
    }
}

impl Drop for RingCursor {
    fn drop(&mut self) {
        self.ring.lock().cursors.remove(&self.id);
        self.ring.advanced.notify_one();
    }
}

#[cfg(test)]
mod tests;
