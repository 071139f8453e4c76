//! Wakes the followers of logs when files change, with one file system watcher for all of them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::watch;
use tokio::time::sleep;

/// How long a follower waits until it looks anyway: the file system may not report changes, and a supervisor that was
/// killed changes nothing.
const LOOK: Duration = Duration::from_secs(1);

type Waiting = HashMap<PathBuf, (usize, watch::Sender<()>)>;

/// All followers.
#[derive(Clone)]
pub(super) struct Followers {
    waiting: Arc<Mutex<Waiting>>,
    watcher: Arc<Mutex<Option<RecommendedWatcher>>>,
}

/// A follower of the changes in one directory.
pub struct Following {
    followers: Followers,
    folder: PathBuf,
    changed: watch::Receiver<()>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Never poisoned: nothing panics while holding one of these.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Followers {
    pub fn start() -> Self {
        let waiting: Arc<Mutex<Waiting>> = Arc::default();
        let told = Arc::clone(&waiting);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let waiting = lock(&told);
            let Ok(event) = event else {
                // Events may have been lost, so wake everyone.
                for (_, sender) in waiting.values() {
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
                for folder in path.ancestors().take(2) {
                    if let Some((_, sender)) = waiting.get(folder) {
                        let _ = sender.send(());
                    }
                }
            }
        });
        let watcher =
            watcher.inspect_err(|error| tracing::warn!(%error, "cannot watch files; checking logs every second"));
        Self {
            waiting,
            watcher: Arc::new(Mutex::new(watcher.ok())),
        }
    }

    /// Registers a follower for changes in a directory.
    pub fn follow(&self, folder: &Path) -> Following {
        // Held until the end. Otherwise, the last follower of the directory could leave and stop the watch that starts
        // here.
        let mut watcher = lock(&self.watcher);
        let (is_first, changed) = {
            let mut waiting = lock(&self.waiting);
            let entry = waiting
                .entry(folder.to_owned())
                .or_insert_with(|| (0, watch::Sender::new(())));
            entry.0 += 1;
            (entry.0 == 1, entry.1.subscribe())
        };
        if is_first
            && let Some(watcher) = watcher.as_mut()
            && let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive)
        {
            tracing::debug!(%error, folder = %folder.display(), "cannot watch a log for changes; checking it every second");
        }
        Following {
            followers: self.clone(),
            folder: folder.to_owned(),
            changed,
        }
    }
}

impl Followers {
    /// Unregisters a follower. The last one of a directory stops the watch.
    fn leave(&self, folder: &Path) {
        let mut watcher = lock(&self.watcher);
        let mut waiting = lock(&self.waiting);
        let Some(entry) = waiting.get_mut(folder) else {
            return;
        };
        entry.0 -= 1;
        if entry.0 > 0 {
            return;
        }
        waiting.remove(folder);
        // `unwatch` may wait for the watcher's thread, which takes this lock.
        drop(waiting);
        if let Some(watcher) = watcher.as_mut() {
            // Fails if the directory is already gone.
            let _ = watcher.unwatch(folder);
        }
    }
}

impl Following {
    /// Waits until something may have changed.
    pub async fn changed(&mut self) {
        tokio::select! {
            _ = self.changed.changed() => {}
            () = sleep(LOOK) => {}
        }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let (followers, folder) = (self.followers.clone(), std::mem::take(&mut self.folder));
        // `unwatch` can block, so it must not run on an async thread. Without a runtime, there are none.
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || followers.leave(&folder))),
            Err(_) => followers.leave(&folder),
        }
    }
}
