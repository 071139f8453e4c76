//! The newest chunks of one pod's log, read by any number of followers at their own speed.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::chunk::Chunk;
use super::position::Position;

/// How much is kept. A follower that falls behind by more reads the log for itself until it has caught up.
const CAPACITY: usize = 512 * 1024;

/// How long the log waits for its slowest follower before that one falls behind. It costs the others at most this much
/// for each time that one has caught up.
const PATIENCE: Duration = Duration::from_millis(100);

/// How many followers are a crowd, and for how long what is written is gathered for each of them: all are woken by a
/// chunk, and other requests shall have their turn in between.
const CROWD: usize = 8;
const PACE: Duration = Duration::from_micros(200);
const MAX_PACE: Duration = Duration::from_millis(250);

/// A window on a log that moves with its end.
pub(super) struct Ring {
    state: Mutex<State>,
    /// A chunk has come, or the end.
    news: Notify,
    /// A follower has moved on.
    room: Notify,
}

struct State {
    chunks: VecDeque<Arc<Chunk>>,
    /// The number of the first chunk kept; numbers start at 0.
    first: u64,
    size: usize,
    /// The place before the first chunk kept.
    start: Position,
    /// How the log has ended, when it has: an error when the rest of it cannot be read.
    end: Option<Result<(), Arc<str>>>,
    /// The number of the next chunk of each follower.
    cursors: HashMap<u64, u64>,
    next_cursor: u64,
}

/// A follower's place in a ring.
pub(super) struct Cursor {
    ring: Arc<Ring>,
    id: u64,
}

/// What a follower gets next.
pub(super) enum Next {
    /// A chunk.
    Chunk(Arc<Chunk>),
    /// The follower was too slow; the ring has moved on.
    Behind,
    /// The log has ended, and all of it was read.
    Closed,
    /// The rest of the log cannot be read.
    Cut(Arc<str>),
}

impl Ring {
    /// An empty window at `start`.
    pub fn new(start: Position) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                chunks: VecDeque::new(),
                first: 0,
                size: 0,
                start,
                end: None,
                cursors: HashMap::new(),
                next_cursor: 0,
            }),
            news: Notify::new(),
            room: Notify::new(),
        })
    }

    /// Follows from `position`; `None` when the window has moved past it.
    pub fn follow(self: &Arc<Self>, position: Position) -> Option<Cursor> {
        let mut state = self.lock();
        if position < state.start {
            return None;
        }
        let read = state
            .chunks
            .iter()
            .take_while(|chunk| chunk.after() <= position)
            .count();
        let id = state.next_cursor;
        let next = state.first + read as u64;
        state.next_cursor += 1;
        state.cursors.insert(id, next);
        Some(Cursor {
            ring: Arc::clone(self),
            id,
        })
    }

    /// Adds a chunk, after a moment for the followers if the window is full.
    pub async fn push(&self, chunk: Chunk) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let room = self.room.notified();
            if !self.lock().would_overrun() {
                break;
            }
            if tokio::time::timeout_at(deadline, room).await.is_err() {
                break;
            }
        }
        self.lock().push(chunk);
        self.news.notify_waiters();
    }

    /// How long to gather what is written before it is pushed.
    pub fn pace(&self) -> Duration {
        let followers = self.lock().cursors.len();
        if followers <= CROWD {
            return Duration::ZERO;
        }
        PACE.saturating_mul(u32::try_from(followers).unwrap_or(u32::MAX))
            .min(MAX_PACE)
    }

    /// The log has ended, or the rest of it cannot be read.
    pub fn close(&self, end: Result<(), Arc<str>>) {
        self.lock().end = Some(end);
        self.news.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether the next chunk would push one out that a follower still needs.
    fn would_overrun(&self) -> bool {
        self.size >= CAPACITY && self.cursors.values().any(|next| *next <= self.first)
    }

    fn push(&mut self, chunk: Chunk) {
        self.size += chunk.size();
        self.chunks.push_back(Arc::new(chunk));
        while self.size > CAPACITY && self.chunks.len() > 1 {
            if let Some(oldest) = self.chunks.pop_front() {
                self.size -= oldest.size();
                self.start = oldest.after();
                self.first += 1;
            }
        }
        // Whoever has lost a chunk is no longer waited for.
        let first = self.first;
        self.cursors.retain(|_, next| *next >= first);
    }
}

impl Cursor {
    /// Waits for what comes next. Can be dropped at any time without losing anything.
    pub async fn next(&self) -> Next {
        loop {
            let news = self.ring.news.notified();
            tokio::pin!(news);
            news.as_mut().enable();
            if let Some(next) = self.take() {
                return next;
            }
            news.await;
        }
    }

    fn take(&self) -> Option<Next> {
        let mut state = self.ring.lock();
        let Some(next) = state.cursors.get(&self.id).copied() else {
            return Some(Next::Behind);
        };
        let index = usize::try_from(next - state.first).unwrap_or(usize::MAX);
        let Some(chunk) = state.chunks.get(index).map(Arc::clone) else {
            return state.end.clone().map(|end| match end {
                Ok(()) => Next::Closed,
                Err(reason) => Next::Cut(reason),
            });
        };
        state.cursors.insert(self.id, next + 1);
        drop(state);
        self.ring.room.notify_one();
        Some(Next::Chunk(chunk))
    }
}

impl Drop for Cursor {
    fn drop(&mut self) {
        self.ring.lock().cursors.remove(&self.id);
        self.ring.room.notify_one();
    }
}

#[cfg(test)]
mod tests;
