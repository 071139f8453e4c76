//! How much the archive may hold.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What the archive leaves free on the disk of a folder, because tasks and the server write there, too: this share, as a
/// divisor, but not more than this number of bytes.
const FREE_SHARE: u64 = 10;
const FREE_BYTES: u64 = 1 << 30;

/// How much the archive may hold, and for how long.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// How long records and logs are kept, counted from the end of the task.
    pub max_age: Option<Duration>,
    /// The size of all logs, in bytes.
    pub max_bytes: Option<u64>,
    /// The size of the logs of one user, in bytes.
    pub max_user_bytes: Option<u64>,
}

/// The size of the disk of a folder, in bytes, if the system says it.
#[must_use]
pub fn disk_size(folder: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(folder).ok()?;
    Some(disk.f_blocks.saturating_mul(disk.f_frsize))
}

/// The size of the logs in the archive, as far as this server knows.
#[derive(Debug)]
pub(crate) struct Space {
    pub limits: Limits,
    used: AtomicU64,
    /// The same by user, if there is a limit per user.
    used_by: Mutex<HashMap<Arc<str>, u64>>,
    /// The folder, if the archive is one.
    folder: Option<PathBuf>,
    is_disk_full: AtomicBool,
}

impl Space {
    pub(crate) fn new(limits: Limits, folder: Option<PathBuf>) -> Self {
        Self {
            limits,
            used: AtomicU64::new(0),
            used_by: Mutex::default(),
            folder,
            is_disk_full: AtomicBool::new(false),
        }
    }

    /// Whether another frame may be written.
    pub(crate) fn has_room(&self) -> bool {
        let used = self.used.load(Ordering::Relaxed);
        self.limits.max_bytes.is_none_or(|max| used < max) && !self.is_disk_full.load(Ordering::Relaxed)
    }

    /// Whether another frame of this user may be written, as far as their own limit goes.
    pub(crate) fn has_room_for(&self, user: &str) -> bool {
        let max = self.limits.max_user_bytes;
        max.is_none_or(|max| self.used_by().get(user).is_none_or(|used| *used < max))
    }

    /// Whether no user has reached their limit.
    pub(crate) fn has_room_for_all(&self) -> bool {
        let max = self.limits.max_user_bytes;
        max.is_none_or(|max| self.used_by().values().all(|used| *used < max))
    }

    /// Looks how full the disk is. Blocks, on a mount that hangs forever.
    pub(crate) fn check_disk(&self) {
        if self.folder.is_some() {
            self.is_disk_full.store(!self.has_disk(1), Ordering::Relaxed);
        }
    }

    /// Whether the disk has room for files of users. Requires twice the free space that logs must leave, so that no
    /// upload makes the archive delete logs. Also blocks.
    pub(crate) fn has_disk_for_files(&self) -> bool {
        self.has_disk(2)
    }

    /// Whether at least `times` the archive's reserve is free.
    fn has_disk(&self, times: u64) -> bool {
        let Some(folder) = &self.folder else { return true };
        // A disk that does not say how full it is shows so when something is written.
        rustix::fs::statvfs(folder).map_or(true, |disk| {
            let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
            bytes(disk.f_bavail) >= times * (bytes(disk.f_blocks) / FREE_SHARE).min(FREE_BYTES)
        })
    }

    /// Counts a frame of this user.
    pub(crate) fn add(&self, user: Option<&Arc<str>>, bytes: u64) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
        if let Some(user) = user
            && self.limits.max_user_bytes.is_some()
        {
            *self.used_by().entry(Arc::clone(user)).or_default() += bytes;
        }
    }

    /// Sets what was counted in a list of all logs.
    pub(crate) fn set(&self, bytes: u64, by_user: HashMap<Arc<str>, u64>) {
        self.set_total(bytes);
        *self.used_by() = by_user;
    }

    pub(crate) fn set_total(&self, bytes: u64) {
        self.used.store(bytes, Ordering::Relaxed);
        metrics::gauge!("k8s_cli_archive_log_bytes").set(bytes as f64);
    }

    fn used_by(&self) -> MutexGuard<'_, HashMap<Arc<str>, u64>> {
        self.used_by.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
