//! Keeps the most recent changes of each kind, for watches.

use std::collections::{HashMap, VecDeque};
use std::pin::pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::object::Kind;
use crate::selector::Selection;

/// Number of changes of a kind that are kept, for watches that resume. kube-apiserver's watch cache is of the same
/// order.
const WINDOW_CHANGES: usize = 1024;

/// Maximum total size of the kept changes of a kind, in bytes.
const WINDOW_BYTES: usize = 3 << 20;

/// A change of an object.
#[derive(Debug)]
pub(crate) struct WatchCacheEvent {
    /// The version that the change created.
    pub version: i64,
    pub kind: Kind,
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
pub(crate) type ResourceVersion = i64;

struct ChangeWindow {
    changes: VecDeque<Arc<WatchCacheEvent>>,
    bytes: usize,
    /// Version of the newest change that was dropped.
    last_dropped: ResourceVersion,
}

/// The windows of all kinds.
pub(crate) struct WatchCache {
    windows: HashMap<Kind, Mutex<ChangeWindow>>,
    newest: AtomicI64,
    /// Changes up to this version survive a power cut.
    durable: AtomicI64,
    /// Wakes waiters in the order in which they began to wait. Tokio's `watch` wakes them in random order, so that
    /// simulations would not be reproducible.
    changed: Notify,
}

impl WatchCache {
    /// Creates empty windows, which start after `version`.
    pub(super) fn new(version: ResourceVersion) -> Self {
        let window = || ChangeWindow {
            changes: VecDeque::new(),
            bytes: 0,
            last_dropped: version,
        };
        Self {
            windows: Kind::ALL.into_iter().map(|kind| (kind, Mutex::new(window()))).collect(),
            newest: AtomicI64::new(version),
            // The last commits of the previous process may not have been synced.
            durable: AtomicI64::new(0),
            changed: Notify::new(),
        }
    }

    fn window(&self, kind: Kind) -> MutexGuard<'_, ChangeWindow> {
        // No code panics while it holds the lock; if it did, the window would still be consistent.
        self.windows[&kind].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Publishes changes to the watches; `version` is the newest one after them.
    pub(super) fn publish(&self, changes: Vec<WatchCacheEvent>, version: ResourceVersion) {
        for change in changes {
            let mut window = self.window(change.kind);
            window.bytes += change.object.len();
            window.changes.push_back(Arc::new(change));
            while window.changes.len() > WINDOW_CHANGES || window.bytes > WINDOW_BYTES {
                let Some(oldest) = window.changes.pop_front() else {
                    break;
                };
                window.bytes -= oldest.object.len();
                window.last_dropped = oldest.version;
            }
        }
        // After the changes: a watch that sees this version must find all changes up to it.
        self.newest.store(version, Ordering::Release);
        self.changed.notify_waiters();
    }

    /// Records that all changes up to `version` are on disk.
    pub(super) fn mark_durable(&self, version: ResourceVersion) {
        self.durable.fetch_max(version, Ordering::AcqRel);
    }

    /// Changes up to this version survive a power cut.
    pub(crate) fn durable(&self) -> ResourceVersion {
        self.durable.load(Ordering::Acquire)
    }

    /// The changes of a kind after `position`.
    ///
    /// # Errors
    /// Some of these changes were dropped; the error is the version of the newest one.
    pub(crate) fn changes_since(
        &self,
        kind: Kind,
        position: ResourceVersion,
    ) -> Result<Vec<Arc<WatchCacheEvent>>, ResourceVersion> {
        let window = self.window(kind);
        if position < window.last_dropped {
            return Err(window.last_dropped);
        }
        let start = window.changes.partition_point(|change| change.version <= position);
        Ok(window.changes.range(start..).cloned().collect())
    }

    /// Waits for a version newer than `position`.
    pub(crate) async fn wait_for_newer(&self, position: ResourceVersion) {
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

    pub(crate) fn newest(&self) -> ResourceVersion {
        self.newest.load(Ordering::Acquire)
    }
}
