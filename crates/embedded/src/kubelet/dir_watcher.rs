//! Wakes the followers of logs when files change, with one file system watcher for all of them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::watch;
use tokio::time::sleep;

/// How long a follower waits until it looks anyway: the file system may not report changes, and a shim that was
/// killed changes nothing.
const FALLBACK_INTERVAL: Duration = Duration::from_secs(1);

type Subscriptions = HashMap<PathBuf, (usize, watch::Sender<()>)>;

/// Watches directories for their subscribers.
#[derive(Clone)]
pub(super) struct DirWatcher {
    subscriptions: Arc<Mutex<Subscriptions>>,
    watcher: Arc<Mutex<Option<RecommendedWatcher>>>,
}

/// A subscription to the changes in one directory.
pub(crate) struct DirSubscription {
    watcher: DirWatcher,
    dir: PathBuf,
    changed: watch::Receiver<()>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Never poisoned: nothing panics while holding one of these.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl DirWatcher {
    pub(crate) fn start() -> Self {
        let subscriptions: Arc<Mutex<Subscriptions>> = Arc::default();
        let notified = Arc::clone(&subscriptions);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let subscriptions = lock(&notified);
            let Ok(event) = event else {
                // Events may have been lost, so wake everyone.
                for (_, sender) in subscriptions.values() {
                    let _ = sender.send(());
                }
                return;
            };
            // Ignore access events: readers open these files and would wake themselves.
            if matches!(event.kind, EventKind::Access(_)) {
                return;
            }
            for path in &event.paths {
                // A changed file is below the directory that is followed; a changed directory may be that directory.
                for dir in path.ancestors().take(2) {
                    if let Some((_, sender)) = subscriptions.get(dir) {
                        let _ = sender.send(());
                    }
                }
            }
        });
        let watcher =
            watcher.inspect_err(|error| tracing::warn!(%error, "cannot watch files; checking logs every second"));
        Self {
            subscriptions,
            watcher: Arc::new(Mutex::new(watcher.ok())),
        }
    }

    /// Registers a follower for changes in a directory.
    pub(crate) fn subscribe(&self, dir: &Path) -> DirSubscription {
        // Held until the end. Otherwise, the last follower of the directory could leave and stop the watch that starts
        // here.
        let mut watcher = lock(&self.watcher);
        let (is_first, changed) = {
            let mut subscriptions = lock(&self.subscriptions);
            let entry = subscriptions
                .entry(dir.to_owned())
                .or_insert_with(|| (0, watch::Sender::new(())));
            entry.0 += 1;
            (entry.0 == 1, entry.1.subscribe())
        };
        if is_first
            && let Some(watcher) = watcher.as_mut()
            && let Err(error) = watcher.watch(dir, RecursiveMode::NonRecursive)
        {
            tracing::debug!(%error, folder = %dir.display(), "cannot watch a log for changes; checking it every second");
        }
        DirSubscription {
            watcher: self.clone(),
            dir: dir.to_owned(),
            changed,
        }
    }

    /// Unregisters a follower. The last one of a directory stops the watch.
    fn unsubscribe(&self, dir: &Path) {
        let mut watcher = lock(&self.watcher);
        let mut subscriptions = lock(&self.subscriptions);
        let Some(entry) = subscriptions.get_mut(dir) else {
            return;
        };
        entry.0 -= 1;
        if entry.0 > 0 {
            return;
        }
        subscriptions.remove(dir);
        // `unwatch` may wait for the watcher's thread, which takes this lock.
        drop(subscriptions);
        if let Some(watcher) = watcher.as_mut() {
            // Fails if the directory is already gone.
            let _ = watcher.unwatch(dir);
        }
    }
}

impl DirSubscription {
    /// Waits until something may have changed.
    pub(crate) async fn changed(&mut self) {
        tokio::select! {
            _ = self.changed.changed() => {}
            () = sleep(FALLBACK_INTERVAL) => {}
        }
    }
}

impl Drop for DirSubscription {
    fn drop(&mut self) {
        let (watcher, dir) = (self.watcher.clone(), std::mem::take(&mut self.dir));
        // `unwatch` can block, so it must not run on an async thread. Without a runtime, there are none.
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || watcher.unsubscribe(&dir))),
            Err(_) => watcher.unsubscribe(&dir),
        }
    }
}
