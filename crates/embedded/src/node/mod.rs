//! The node: runs the pods that are bound to this machine, each in its own worker.

mod addresses;
mod control_group;
mod environment;
mod follow;
mod log;
mod log_bound;
mod machine;
mod plan;
mod projection;
mod readiness;
mod restart;
mod status;
mod trash;
mod volumes;
mod worker;

pub use log::{LogReader, Wanted};
pub use machine::{name as node_name, node_object};

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::addresses::Addresses;
use self::control_group::ControlGroups;
use self::follow::Followers;
use self::trash::{Taken, Trash};
use crate::aside::Aside;
use crate::container::Folder;
use crate::files::{make_private, sync_folder};
use crate::object::{Object, kind_of};
use crate::refusal::Refusal;
use crate::state;
use crate::store::{Durability, Hub, Store};

/// Subdirectories of the state directory with the files of pods and of claims.
const FOLDERS: [&str; 2] = ["pods", "volumes"];

/// How long to wait for a killed container to end, and how often to check.
const END_PATIENCE: Duration = Duration::from_secs(20);
const END_PAUSE: Duration = Duration::from_millis(10);

/// Newest state of a pod, or `None` if it was removed.
type Newest = Option<Arc<Object>>;

/// Settings of a [`Node`].
#[derive(Debug, Clone)]
pub struct Settings {
    /// State directory.
    pub state: PathBuf,
    /// Size limit for the log of one pod, in bytes.
    pub log_limit: u64,
    /// Size limit for the logs of all pods together, in bytes.
    pub total_log_limit: u64,
    /// Program to execute as supervisor, which is this program.
    pub program: PathBuf,
}

/// This machine as a cluster node.
pub struct Node {
    store: Arc<Store>,
    settings: Settings,
    workers: Mutex<HashMap<String, watch::Sender<Newest>>>,
    addresses: Addresses,
    control_groups: ControlGroups,
    followers: Followers,
    aside: Aside,
    trash: Trash,
    stopping: CancellationToken,
    tracker: TaskTracker,
}

impl Node {
    pub fn new(store: Arc<Store>, settings: Settings, stopping: CancellationToken) -> io::Result<Self> {
        for what in FOLDERS {
            make_private(&settings.state.join(what))?;
        }
        sync_folder(&settings.state)?;
        Ok(Self {
            trash: Trash::open(&settings.state)?,
            store,
            settings,
            workers: Mutex::default(),
            addresses: Addresses::default(),
            control_groups: ControlGroups::find(),
            followers: Followers::start(),
            aside: Aside::default(),
            stopping,
            tracker: TaskTracker::new(),
        })
    }

    /// Returns the directory of a pod's container.
    pub fn folder(&self, uid: &str) -> Folder {
        Folder::at(self.settings.state.join("pods").join(uid))
    }

    fn volume(&self, uid: &str) -> PathBuf {
        self.settings.state.join("volumes").join(uid)
    }

    fn workers(&self) -> MutexGuard<'_, HashMap<String, watch::Sender<Newest>>> {
        // Never poisoned: nothing panics while holding this lock.
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over the existing pods, then follows their changes until the engine stops.
    pub async fn start(self: &Arc<Self>) -> Result<(), Refusal> {
        for what in FOLDERS {
            self.set_unknown_aside(what).await?;
        }
        let position = self.take_stock().await?;
        let node = Arc::clone(self);
        self.tracker.spawn(async move { node.follow(position).await });
        self.tracker.spawn(log_bound::keep(
            self.settings.state.join("pods"),
            self.settings.total_log_limit,
            self.aside.clone(),
            self.stopping.clone(),
        ));
        self.tracker.close();
        Ok(())
    }

    /// Waits until all workers have returned. Containers keep running.
    pub async fn stopped(&self) {
        self.tracker.wait().await;
    }

    /// Catches up with the store: starts workers for active pods, and removes the files of deleted objects.
    async fn take_stock(self: &Arc<Self>) -> Result<i64, Refusal> {
        // Before the pods are read: changes that arrive in between are then seen twice instead of never.
        let position = self.store.hub().newest();
        let active = self
            .store
            .write(Durability::Process, true, |transaction| {
                transaction.active(kind_of("pods"))
            })
            .await?;
        for pod in active {
            self.pod_is(Arc::new(pod));
        }
        let known: Vec<String> = self.workers().keys().cloned().collect();
        for uid in self.unknown(known).await? {
            self.pod_was(&uid);
        }
        let leftovers = self
            .store
            .write(Durability::Process, true, |transaction| transaction.leftovers())
            .await?;
        for uid in leftovers {
            self.dispose(&uid);
        }
        Ok(position)
    }

    /// Moves aside the files of objects that the store doesn't know and never knew, e.g., because the database was lost
    /// or restored. Kills containers that still run there, because nobody could see or stop them anymore.
    async fn set_unknown_aside(&self, what: &str) -> Result<(), Refusal> {
        let folder = self.settings.state.join(what);
        let names: Vec<OsString> = std::fs::read_dir(&folder)
            .map_err(Refusal::internal)?
            .flatten()
            .map(|entry| entry.file_name())
            .collect();
        let unknown = self
            .store
            .write(Durability::Process, true, move |transaction| {
                let leftovers: HashSet<String> = transaction.leftovers()?.into_iter().collect();
                let mut unknown = Vec::new();
                for name in names {
                    let is_known = match name.to_str() {
                        Some(uid) => leftovers.contains(uid) || transaction.by_uid(uid)?.is_some(),
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
            let (state, path) = (self.settings.state.clone(), folder.join(name));
            let moved = tokio::task::spawn_blocking(move || set_aside(&state, &path));
            moved.await.map_err(Refusal::internal)?;
        }
        Ok(())
    }

    /// Returns the UIDs without an object.
    async fn unknown(&self, uids: Vec<String>) -> Result<Vec<String>, Refusal> {
        self.store
            .write(Durability::Process, true, move |transaction| {
                let mut unknown = Vec::new();
                for uid in uids {
                    if transaction.by_uid(&uid)?.is_none() {
                        unknown.push(uid);
                    }
                }
                Ok(unknown)
            })
            .await
    }

    async fn follow(self: Arc<Self>, mut position: i64) {
        let hub = Arc::clone(self.store.hub());
        loop {
            // Before catching up: `newer_than` then also returns for changes that arrive in between.
            let seen = hub.newest();
            if let Err(()) = self.catch_up(&hub, position) {
                tracing::warn!("missed changes; reading all pods again");
                match self.take_stock().await {
                    Ok(fresh) => position = fresh,
                    Err(refusal) => tracing::warn!(message = refusal.message, "cannot read the pods"),
                }
            } else {
                position = position.max(seen);
            }
            tokio::select! {
                () = hub.newer_than(seen) => {}
                () = self.stopping.cancelled() => return,
            }
        }
    }

    /// Passes changes on to the workers. Fails if the hub no longer has all changes since `position`.
    fn catch_up(self: &Arc<Self>, hub: &Hub, position: i64) -> Result<(), ()> {
        for change in hub.since(kind_of("pods"), position).map_err(drop)? {
            let Some(pod) = read(&change.object, "pods") else {
                continue;
            };
            if change.after.is_some() {
                self.pod_is(Arc::new(pod));
            } else {
                self.pod_was(pod.uid());
            }
        }
        for change in hub.since(kind_of("persistentvolumeclaims"), position).map_err(drop)? {
            if change.after.is_none()
                && let Some(claim) = read(&change.object, "persistentvolumeclaims")
            {
                self.dispose(claim.uid());
            }
        }
        Ok(())
    }

    /// Handles a pod that was added or modified.
    fn pod_is(self: &Arc<Self>, pod: Arc<Object>) {
        let mut workers = self.workers();
        if let Some(worker) = workers.get(pod.uid()) {
            worker.send_replace(Some(pod));
            return;
        }
        let is_ours = pod.value["spec"]["nodeName"].is_string() && (pod.kind.is_active)(&pod.value);
        if !is_ours || self.stopping.is_cancelled() {
            return;
        }
        let uid = pod.uid().to_owned();
        let (sender, receiver) = watch::channel(Some(Arc::clone(&pod)));
        workers.insert(uid.clone(), sender);
        drop(workers);
        let node = Arc::clone(self);
        self.tracker.spawn(async move {
            worker::run(&node, &pod, receiver).await;
            // `pod_was` leaves the cleanup to the worker while there is one.
            let worker = node.workers().remove(&uid);
            if worker.is_some_and(|worker| worker.borrow().is_none()) {
                node.dispose(&uid);
            }
        });
    }

    /// Handles a pod that was removed.
    fn pod_was(self: &Arc<Self>, uid: &str) {
        if let Some(worker) = self.workers().get(uid) {
            worker.send_replace(None);
            return;
        }
        self.dispose(uid);
    }

    /// Removes the files of a deleted pod or claim, then the record that demands it.
    fn dispose(self: &Arc<Self>, uid: &str) {
        let (node, uid) = (Arc::clone(self), uid.to_owned());
        self.tracker.spawn(async move {
            if let Err(refusal) = node.clear_away(&uid).await {
                let message = refusal.message;
                tracing::warn!(
                    uid,
                    message,
                    "cannot remove the files of a deleted object; retrying at the next start"
                );
            }
        });
    }

    async fn clear_away(self: &Arc<Self>, uid: &str) -> Result<(), Refusal> {
        // First, make the deletion durable. If a power cut undid it after the directory is gone, the pod's command
        // would run again.
        self.store.persist(self.store.hub().newest()).await?;
        let (node, gone) = (Arc::clone(self), uid.to_owned());
        let taken = tokio::task::spawn_blocking(move || node.remove(&gone)).await;
        for folder in taken.map_err(Refusal::internal)?.map_err(Refusal::internal)? {
            let Taken::InPlace(removed) = folder else { continue };
            tokio::select! {
                removed = removed => removed.map_err(|_| Refusal::internal("cannot remove its directory"))?,
                // The next start continues with it.
                () = self.stopping.cancelled() => return Ok(()),
            }
        }
        let gone = uid.to_owned();
        let forgotten = self.store.write(Durability::Process, true, move |transaction| {
            transaction.forget_leftover(&gone)
        });
        forgotten.await
    }

    /// Kills what still runs of a pod, and moves its directory, or that of a claim, to the trash.
    fn remove(&self, uid: &str) -> io::Result<[Taken; 2]> {
        let folder = self.folder(uid);
        if folder.path().exists() {
            end(&folder)?;
            if let Some(order) = folder.order() {
                self.control_groups.remove(&order.control_groups);
            }
        }
        Ok([self.trash.take(folder.path()), self.trash.take(&self.volume(uid))])
    }

    pub fn log(self: &Arc<Self>, pod: &Object, wanted: Wanted) -> LogReader {
        let folder = self.folder(pod.uid());
        LogReader::open(folder, self.followers.clone(), self.aside.clone(), wanted)
    }
}

/// Kills the container in a directory, and waits until it has ended. The wait is limited, because it may be impossible
/// to find out which process to kill.
fn end(folder: &Folder) -> io::Result<()> {
    let deadline = Instant::now() + END_PATIENCE;
    loop {
        match folder.take() {
            Ok(Some(_)) => return Ok(()),
            Ok(None) if Instant::now() < deadline => {}
            Ok(None) => return Err(io::Error::other("timed out waiting for its container to end")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        }
        worker::kill(folder);
        // Poll the lock, because waiting for it has no timeout.
        std::thread::sleep(END_PAUSE);
    }
}

fn set_aside(state: &Path, path: &Path) {
    let folder = Folder::at(path.to_owned());
    let ended = if folder.started().is_some() {
        end(&folder)
    } else {
        Ok(())
    };
    match ended.and_then(|()| state::set_aside(state, path)) {
        Ok(place) => tracing::warn!(
            event = "set_aside",
            from = %path.display(),
            to = %place.display(),
            "moved files aside that the database doesn't know; nothing was deleted"
        ),
        Err(error) => tracing::warn!(path = %path.display(), %error, "cannot move unknown files aside"),
    }
}

fn read(object: &Bytes, plural: &'static str) -> Option<Object> {
    let value = serde_json::from_slice(object).ok()?;
    Some(Object {
        kind: kind_of(plural),
        value,
    })
}
