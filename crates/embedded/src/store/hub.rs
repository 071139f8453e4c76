//! Keeps the most recent changes of each kind, for watches.

use std::collections::{HashMap, VecDeque};
use std::pin::pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::object::{KINDS, Kind, Selection};

/// Number of changes of a kind that are kept, for watches that resume. kube-apiserver's watch cache is of the same
/// order.
const WINDOW: usize = 1024;

/// Maximum total size of the kept changes of a kind, in bytes.
const WINDOW_BYTES: usize = 3 << 20;

/// A change of an object.
#[derive(Debug)]
pub struct Change {
    /// The version that the change created.
    pub version: i64,
    pub kind: &'static Kind,
    /// Empty for cluster-scoped objects.
    pub namespace: String,
    /// The object after the change, or its last state if it was deleted.
    pub object: Bytes,
    /// What selectors matched before; `None` if the object was created.
    pub before: Option<Arc<Selection>>,
    /// What selectors match now; `None` if the object was deleted.
    pub after: Option<Arc<Selection>>,
}

/// The version after which a watch resumes.
pub type Position = i64;

struct Ring {
    changes: VecDeque<Arc<Change>>,
    bytes: usize,
    /// Version of the newest change that was dropped.
    forgotten: Position,
}

/// The windows of all kinds.
pub struct Hub {
    rings: HashMap<&'static str, Mutex<Ring>>,
    newest: AtomicI64,
    /// Changes up to this version survive a power cut.
    durable: AtomicI64,
    /// Wakes waiters in the order in which they began to wait. Tokio's `watch` wakes them in random order, so that
    /// simulations would not be reproducible.
    changed: Notify,
}

impl Hub {
    /// Creates empty windows, which start after `version`.
    pub(super) fn new(version: Position) -> Self {
        let ring = || Ring {
            changes: VecDeque::new(),
            bytes: 0,
            forgotten: version,
        };
        Self {
            rings: KINDS.iter().map(|kind| (kind.plural, Mutex::new(ring()))).collect(),
            newest: AtomicI64::new(version),
            // The last commits of the previous process may not have been synced.
            durable: AtomicI64::new(0),
            changed: Notify::new(),
        }
    }

    fn ring(&self, kind: &Kind) -> MutexGuard<'_, Ring> {
        // No code panics while it holds the lock; if it did, the window would still be consistent.
        self.rings[kind.plural].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Publishes changes to the watches; `version` is the newest one after them.
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
        // After the changes: a watch that sees this version must find all changes up to it.
        self.newest.store(version, Ordering::Release);
        self.changed.notify_waiters();
    }

    /// Records that all changes up to `version` are on disk.
    pub(super) fn is_durable_up_to(&self, version: Position) {
        self.durable.fetch_max(version, Ordering::AcqRel);
    }

    /// Changes up to this version survive a power cut.
    pub fn durable(&self) -> Position {
        self.durable.load(Ordering::Acquire)
    }

    /// The changes of a kind after `position`.
    ///
    /// # Errors
    /// Some of these changes were dropped; the error is the version of the newest one.
    pub fn since(&self, kind: &Kind, position: Position) -> Result<Vec<Arc<Change>>, Position> {
        let ring = self.ring(kind);
        if position < ring.forgotten {
            return Err(ring.forgotten);
        }
        let start = ring.changes.partition_point(|change| change.version <= position);
        Ok(ring.changes.range(start..).cloned().collect())
    }

    /// Waits for a version newer than `position`.
    pub async fn newer_than(&self, position: Position) {
        let mut changed = pin!(self.changed.notified());
        loop {
            // Register before looking: a change that is published in between wakes this waiter.
            changed.as_mut().enable();
            if self.newest() > position {
                return;
            }
            changed.as_mut().await;
            changed.set(self.changed.notified());
        }
    }

    pub fn newest(&self) -> Position {
        self.newest.load(Ordering::Acquire)
    }
}
