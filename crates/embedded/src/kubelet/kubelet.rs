//! The kubelet itself: starts a worker for each pod, passes changes on to it, and removes the files of deleted objects.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::context::{KubeletConfig, KubeletContext};
use super::log_pruner;
use super::log_reader::{LogReader, PodLogOptions};
use super::pod_worker::{self, LatestPod};
use super::trash::Removal;
use crate::container::ContainerDir;
use crate::files::{create_private_dir, sync_dir};
use crate::object::{Kind, Object};
use crate::resources::{is_bound, is_terminal};
use crate::state_dir;
use crate::status_error::StatusError;
use crate::store::{Durability, Store, WatchCache};

/// Subdirectories of the state directory with the files of pods and of claims.
const OBJECT_DIRS: [&str; 2] = ["pods", "volumes"];

/// How long to wait for a killed container to end, and how often to check.
const KILL_TIMEOUT: Duration = Duration::from_secs(20);
const KILL_POLL_INTERVAL: Duration = Duration::from_millis(10);

/// This machine as a cluster node.
pub(crate) struct Kubelet {
    context: Arc<KubeletContext>,
    workers: Mutex<HashMap<String, watch::Sender<LatestPod>>>,
    tracker: TaskTracker,
}

impl Kubelet {
    pub(crate) fn new(store: Arc<Store>, config: KubeletConfig, stopping: CancellationToken) -> io::Result<Self> {
        for subdir in OBJECT_DIRS {
            create_private_dir(&config.state_dir.join(subdir))?;
        }
        sync_dir(&config.state_dir)?;
        Ok(Self {
            context: Arc::new(KubeletContext::new(store, config, stopping)?),
            workers: Mutex::default(),
            tracker: TaskTracker::new(),
        })
    }

    fn workers(&self) -> MutexGuard<'_, HashMap<String, watch::Sender<LatestPod>>> {
        // Never poisoned: nothing panics while holding this lock.
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over the existing pods, then follows their changes until the engine stops.
    pub(crate) async fn start(self: &Arc<Self>) -> Result<(), StatusError> {
        for subdir in OBJECT_DIRS {
            self.quarantine_unknown(subdir).await?;
        }
        let position = self.resync().await?;
        let kubelet = Arc::clone(self);
        self.tracker.spawn(async move { kubelet.follow(position).await });
        self.tracker.spawn(log_pruner::prune_periodically(
            self.context.config.state_dir.join("pods"),
            self.context.config.total_log_limit,
            self.context.blocking_pool.clone(),
            self.context.stopping.clone(),
        ));
        self.tracker.close();
        Ok(())
    }

    /// Waits until all workers have returned. Containers keep running.
    pub(crate) async fn wait_until_stopped(&self) {
        self.tracker.wait().await;
    }

    /// Catches up with the store: starts workers for active pods, and removes the files of deleted objects.
    async fn resync(self: &Arc<Self>) -> Result<i64, StatusError> {
        // Before the pods are read: changes that arrive in between are then seen twice instead of never.
        let position = self.context.store.watch_cache().newest();
        let active = self
            .context
            .store
            .write(Durability::Process, |transaction| transaction.list_active(Kind::Pod))
            .await?;
        for pod in active {
            self.pod_applied(Arc::new(pod));
        }
        let known: Vec<String> = self.workers().keys().cloned().collect();
        for uid in self.find_unknown(known).await? {
            self.pod_deleted(&uid);
        }
        let leftovers = self
            .context
            .store
            .write(Durability::Process, |transaction| transaction.leftovers())
            .await?;
        for uid in leftovers {
            self.delete_files_in_background(&uid);
        }
        Ok(position)
    }

    /// Moves aside the files of objects that the store doesn't know and never knew, e.g., because the database was lost
    /// or restored. Kills containers that still run there, because nobody could see or stop them anymore.
    async fn quarantine_unknown(&self, subdir: &str) -> Result<(), StatusError> {
        let dir = self.context.config.state_dir.join(subdir);
        let names: Vec<OsString> = std::fs::read_dir(&dir)
            .map_err(StatusError::internal)?
            .flatten()
            .map(|entry| entry.file_name())
            .collect();
        let unknown = self
            .context
            .store
            .write(Durability::Process, move |transaction| {
                let leftovers: HashSet<String> = transaction.leftovers()?.into_iter().collect();
                let mut unknown = Vec::new();
                for name in names {
                    let is_known = match name.to_str() {
                        Some(uid) => leftovers.contains(uid) || transaction.get_by_uid(uid)?.is_some(),
                        None => false,
                    };
                    if !is_known {
                        unknown.push(name);
                    }
                }
                Ok(unknown)
            })
            .await?;
        for name in unknown {
            let (state, path) = (self.context.config.state_dir.clone(), dir.join(name));
            let moved = tokio::task::spawn_blocking(move || quarantine(&state, &path));
            moved.await.map_err(StatusError::internal)?;
        }
        Ok(())
    }

    /// Returns the UIDs without an object.
    async fn find_unknown(&self, uids: Vec<String>) -> Result<Vec<String>, StatusError> {
        self.context
            .store
            .write(Durability::Process, move |transaction| {
                let mut unknown = Vec::new();
                for uid in uids {
                    if transaction.get_by_uid(&uid)?.is_none() {
                        unknown.push(uid);
                    }
                }
                Ok(unknown)
            })
            .await
    }

    async fn follow(self: Arc<Self>, mut position: i64) {
        let watch_cache = Arc::clone(self.context.store.watch_cache());
        loop {
            // Before catching up: `wait_for_newer` then also returns for changes that arrive in between.
            let seen = watch_cache.newest();
            if let Err(()) = self.apply_changes(&watch_cache, position) {
                tracing::warn!("missed changes; reading all pods again");
                match self.resync().await {
                    Ok(fresh) => position = fresh,
                    Err(error) => tracing::warn!(message = error.message, "cannot read the pods"),
                }
            } else {
                position = position.max(seen);
            }
            tokio::select! {
                () = watch_cache.wait_for_newer(seen) => {}
                () = self.context.stopping.cancelled() => return,
            }
        }
    }

    /// Passes changes on to the workers. Fails if the watch cache no longer has all changes since `position`.
    fn apply_changes(self: &Arc<Self>, watch_cache: &WatchCache, position: i64) -> Result<(), ()> {
        for change in watch_cache.changes_since(Kind::Pod, position).map_err(drop)? {
            let Ok(pod) = Object::decode(Kind::Pod, &change.object) else {
                continue;
            };
            if change.after.is_some() {
                self.pod_applied(Arc::new(pod));
            } else {
                self.pod_deleted(pod.uid());
            }
        }
        for change in watch_cache
            .changes_since(Kind::PersistentVolumeClaim, position)
            .map_err(drop)?
        {
            if change.after.is_none()
                && let Ok(claim) = Object::decode(Kind::PersistentVolumeClaim, &change.object)
            {
                self.delete_files_in_background(claim.uid());
            }
        }
        Ok(())
    }

    /// Handles a pod that was added or modified.
    fn pod_applied(self: &Arc<Self>, pod: Arc<Object>) {
        let mut workers = self.workers();
        if let Some(worker) = workers.get(pod.uid()) {
            worker.send_replace(Some(pod));
            return;
        }
        let is_ours = is_bound(&pod) && !is_terminal(&pod);
        if !is_ours || self.context.stopping.is_cancelled() {
            return;
        }
        let uid = pod.uid().to_owned();
        let (sender, receiver) = watch::channel(Some(Arc::clone(&pod)));
        workers.insert(uid.clone(), sender);
        drop(workers);
        let kubelet = Arc::clone(self);
        self.tracker.spawn(async move {
            pod_worker::run(&kubelet.context, &pod, receiver).await;
            // `pod_deleted` leaves the cleanup to the worker while there is one.
            let worker = kubelet.workers().remove(&uid);
            if worker.is_some_and(|worker| worker.borrow().is_none()) {
                kubelet.delete_files_in_background(&uid);
            }
        });
    }

    /// Handles a pod that was removed.
    fn pod_deleted(self: &Arc<Self>, uid: &str) {
        if let Some(worker) = self.workers().get(uid) {
            worker.send_replace(None);
            return;
        }
        self.delete_files_in_background(uid);
    }

    /// Removes the files of a deleted pod or claim, then the record that demands it.
    fn delete_files_in_background(self: &Arc<Self>, uid: &str) {
        let (kubelet, uid) = (Arc::clone(self), uid.to_owned());
        self.tracker.spawn(async move {
            if let Err(error) = kubelet.delete_files(&uid).await {
                let message = error.message;
                tracing::warn!(
                    uid,
                    message,
                    "cannot remove the files of a deleted object; retrying at the next start"
                );
            }
        });
    }

    async fn delete_files(self: &Arc<Self>, uid: &str) -> Result<(), StatusError> {
        // First, make the deletion durable. If a power cut undid it after the directory is gone, the pod's command
        // would run again.
        self.context
            .store
            .persist(self.context.store.watch_cache().newest())
            .await?;
        let (kubelet, deleted_uid) = (Arc::clone(self), uid.to_owned());
        let removals = tokio::task::spawn_blocking(move || kubelet.kill_and_trash(&deleted_uid)).await;
        for removal in removals
            .map_err(StatusError::internal)?
            .map_err(StatusError::internal)?
        {
            let Removal::Deleting(removed) = removal else { continue };
            tokio::select! {
                removed = removed => removed.map_err(|_| StatusError::internal("cannot remove its directory"))?,
                // The next start continues with it.
                () = self.context.stopping.cancelled() => return Ok(()),
            }
        }
        let deleted_uid = uid.to_owned();
        let forgotten = self.context.store.write(Durability::Process, move |transaction| {
            transaction.remove_leftover(&deleted_uid)
        });
        forgotten.await
    }

    /// Kills what still runs of a pod, and moves its directory, or that of a claim, to the trash.
    fn kill_and_trash(&self, uid: &str) -> io::Result<[Removal; 2]> {
        let container_dir = self.context.container_dir(uid);
        if container_dir.path().exists() {
            kill_and_wait(&container_dir)?;
            if let Some(spec) = container_dir.spec() {
                self.context.cgroups.remove(&spec.cgroups);
            }
        }
        Ok([
            self.context.trash.move_to_trash(container_dir.path()),
            self.context.trash.move_to_trash(&self.context.volume_dir(uid)),
        ])
    }

    /// Opens the log of the pod with this UID.
    pub(crate) fn read_log(&self, uid: &str, options: PodLogOptions) -> LogReader {
        let container_dir = self.context.container_dir(uid);
        LogReader::open(
            container_dir,
            self.context.log_watcher.clone(),
            self.context.blocking_pool.clone(),
            options,
        )
    }
}

/// Kills the container in a directory, and waits until it has ended. The wait is limited, because it may be impossible
/// to find out which process to kill.
fn kill_and_wait(container_dir: &ContainerDir) -> io::Result<()> {
    let deadline = Instant::now() + KILL_TIMEOUT;
    loop {
        match container_dir.try_lock() {
            Ok(Some(_)) => return Ok(()),
            Ok(None) if Instant::now() < deadline => {}
            Ok(None) => return Err(io::Error::other("timed out waiting for its container to end")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        }
        pod_worker::kill(container_dir);
        // Poll the lock, because waiting for it has no timeout.
        std::thread::sleep(KILL_POLL_INTERVAL);
    }
}

fn quarantine(state: &Path, path: &Path) {
    let container_dir = ContainerDir::at(path.to_owned());
    let ended = if container_dir.started().is_some() {
        kill_and_wait(&container_dir)
    } else {
        Ok(())
    };
    match ended.and_then(|()| state_dir::quarantine(state, path)) {
        Ok(new_path) => tracing::warn!(
            event = "set_aside",
            from = %path.display(),
            to = %new_path.display(),
            "moved files aside that the database doesn't know; nothing was deleted"
        ),
        Err(error) => tracing::warn!(path = %path.display(), %error, "cannot move unknown files aside"),
    }
}
