//! Who waits for a log to grow, and one watch on the file system for all of them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::watch;
use tokio::time::sleep;

/// How long a follower waits before it looks by itself: the file system may not tell, and a supervisor that was killed
/// tells nothing.
const LOOK: Duration = Duration::from_secs(1);

type Waiting = HashMap<PathBuf, (usize, watch::Sender<()>)>;

/// All who wait.
#[derive(Clone)]
pub(super) struct Followers {
    waiting: Arc<Mutex<Waiting>>,
    watcher: Arc<Mutex<Option<RecommendedWatcher>>>,
}

/// One who waits for changes in a folder.
pub struct Following {
    followers: Followers,
    folder: PathBuf,
    changed: watch::Receiver<()>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it holds one of these.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Followers {
    /// Nobody waits yet.
    pub fn start() -> Self {
        let waiting: Arc<Mutex<Waiting>> = Arc::default();
        let told = Arc::clone(&waiting);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let waiting = lock(&told);
            let Ok(event) = event else {
                // Something was missed: everybody looks.
                for (_, sender) in waiting.values() {
                    let _ = sender.send(());
                }
                return;
            };
            // Whoever is woken opens files of the folder to look, and must not wake itself by that.
            if matches!(event.kind, EventKind::Access(_)) {
                return;
            }
            for path in &event.paths {
                for folder in path.ancestors().take(2) {
                    if let Some((_, sender)) = waiting.get(folder) {
                        let _ = sender.send(());
                    }
                }
            }
        });
        let watcher = watcher.inspect_err(|error| tracing::warn!(%error, "logs are looked at once a second"));
        Self {
            waiting,
            watcher: Arc::new(Mutex::new(watcher.ok())),
        }
    }

    /// Waits for changes in a folder.
    pub fn follow(&self, folder: &Path) -> Following {
        // Held to the end: nobody stops the watch that is begun here.
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
            tracing::debug!(%error, folder = %folder.display(), "a log is looked at once a second");
        }
        Following {
            followers: self.clone(),
            folder: folder.to_owned(),
            changed,
        }
    }
}

impl Followers {
    /// One who waited for changes in a folder does so no more.
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
        // The watcher's own thread may wait for it.
        drop(waiting);
        if let Some(watcher) = watcher.as_mut() {
            // The folder may be gone.
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
        // The watcher may have to be waited for; without a runtime there is nobody whom that could hold.
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || followers.leave(&folder))),
            Err(_) => followers.leave(&folder),
        }
    }
}
