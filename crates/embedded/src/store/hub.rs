//! The latest changes of each kind, for watches.

use std::collections::{HashMap, VecDeque};
use std::pin::pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::object::{KINDS, Kind, Selection};

/// How many changes of a kind are kept for watches that come back. A real API server's window is of the same order.
const WINDOW: usize = 1024;

/// How large the kept changes of a kind may be together, in bytes.
const WINDOW_BYTES: usize = 3 << 20;

/// One change of an object.
#[derive(Debug)]
pub struct Change {
    /// The version that the change made.
    pub version: i64,
    /// What it is about.
    pub kind: &'static Kind,
    /// Empty where there is none.
    pub namespace: String,
    /// The object after the change, or, when it was removed, its last state.
    pub object: Bytes,
    /// What selectors saw before; `None` when it was made.
    pub before: Option<Arc<Selection>>,
    /// What selectors see now; `None` when it was removed.
    pub after: Option<Arc<Selection>>,
}

/// Behind a change: where a watch goes on.
pub type Position = i64;

struct Ring {
    changes: VecDeque<Arc<Change>>,
    bytes: usize,
    /// The version of the newest change that is no longer kept.
    forgotten: Position,
}

/// The windows of all kinds.
pub struct Hub {
    rings: HashMap<&'static str, Mutex<Ring>>,
    newest: AtomicI64,
    /// Up to which version a power cut takes nothing.
    durable: AtomicI64,
    /// Wakes those who wait in the order in which they began to: `tokio`'s `watch` would draw lots.
    changed: Notify,
}

impl Hub {
    /// Windows that begin behind `version`.
    pub(super) fn new(version: Position) -> Self {
        let ring = || Ring {
            changes: VecDeque::new(),
            bytes: 0,
            forgotten: version,
        };
        Self {
            rings: KINDS.iter().map(|kind| (kind.plural, Mutex::new(ring()))).collect(),
            newest: AtomicI64::new(version),
            // What another process has written last may not be on the disk.
            durable: AtomicI64::new(0),
            changed: Notify::new(),
        }
    }

    fn ring(&self, kind: &Kind) -> MutexGuard<'_, Ring> {
        // Nothing panics while it holds the lock; if it did, the window would still be whole.
        self.rings[kind.plural].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows changes to the watches; `version` is behind the last of them.
    pub(super) fn publish(&self, changes: Vec<Change>, version: Position) {
        for change in changes {
            let mut ring = self.ring(change.kind);
            ring.bytes += change.object.len();
            ring.changes.push_back(Arc::new(change));
            while ring.changes.len() > WINDOW || ring.bytes > WINDOW_BYTES {
                let Some(oldest) = ring.changes.pop_front() else { break };
                ring.bytes -= oldest.object.len();
                ring.forgotten = oldest.version;
            }
        }
        self.newest.store(version, Ordering::Release);
        self.changed.notify_waiters();
    }

    /// What there is up to `version` is on the disk.
    pub(super) fn is_durable_up_to(&self, version: Position) {
        self.durable.fetch_max(version, Ordering::AcqRel);
    }

    /// Up to which version a power cut takes nothing.
    #[must_use]
    pub fn durable(&self) -> Position {
        self.durable.load(Ordering::Acquire)
    }

    /// The changes of a kind behind a position.
    ///
    /// # Errors
    /// Some of them are no longer known; the oldest version that is.
    pub fn since(&self, kind: &Kind, position: Position) -> Result<Vec<Arc<Change>>, Position> {
        let ring = self.ring(kind);
        if position < ring.forgotten {
            return Err(ring.forgotten);
        }
        let start = ring.changes.partition_point(|change| change.version <= position);
        Ok(ring.changes.range(start..).cloned().collect())
    }

    /// Waits until there are changes behind a position.
    pub async fn newer_than(&self, position: Position) {
        let mut changed = pin!(self.changed.notified());
        loop {
            // From here on no change is missed.
            changed.as_mut().enable();
            if self.newest() > position {
                return;
            }
            changed.as_mut().await;
            changed.set(self.changed.notified());
        }
    }

    /// The newest version there is.
    #[must_use]
    pub fn newest(&self) -> Position {
        self.newest.load(Ordering::Acquire)
    }
}
