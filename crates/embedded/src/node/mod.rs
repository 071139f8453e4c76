//! The node: it runs the pods that were given to this machine, each in a worker of its own.

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

/// What is kept for pods, and for claims.
const FOLDERS: [&str; 2] = ["pods", "volumes"];

/// How long a container that is ended at once is waited for, and how often it is looked whether it has.
const END_PATIENCE: Duration = Duration::from_secs(20);
const END_PAUSE: Duration = Duration::from_millis(10);

/// The newest state of a pod; `None` when it was removed.
type Newest = Option<Arc<Object>>;

/// How to run pods.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where everything is kept.
    pub state: PathBuf,
    /// How large the log of a pod may grow, in bytes.
    pub log_limit: u64,
    /// How large the logs of all pods may grow together, in bytes.
    pub total_log_limit: u64,
    /// The program that becomes a supervisor.
    pub program: PathBuf,
}

/// This machine, as a node.
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
    /// The node of a store.
    ///
    /// # Errors
    /// The folders for pods and volumes cannot be made.
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

    /// The folder of a pod's container.
    pub fn folder(&self, uid: &str) -> Folder {
        Folder::at(self.settings.state.join("pods").join(uid))
    }

    fn volume(&self, uid: &str) -> PathBuf {
        self.settings.state.join("volumes").join(uid)
    }

    fn workers(&self) -> MutexGuard<'_, HashMap<String, watch::Sender<Newest>>> {
        // Nothing panics while it holds the lock.
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Finds the pods that are there, and then follows what becomes of them, until the engine stops.
    ///
    /// # Errors
    /// The store cannot be read.
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

    /// Waits until nothing is under way any more. The containers run on.
    pub async fn stopped(&self) {
        self.tracker.wait().await;
    }

    /// All that is there: pods get their workers, and what is left of objects that are gone is removed.
    async fn take_stock(self: &Arc<Self>) -> Result<i64, Refusal> {
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

    /// Moves aside what is in the place of objects that the store does not know and never knew, as when the database was lost or
    /// restored. A container that still runs there is ended: nobody could see or stop it any more.
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

    /// Those for which there is no object.
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
            let seen = hub.newest();
            if let Err(()) = self.catch_up(&hub, position) {
                tracing::warn!("the node has missed changes, and looks at everything again");
                match self.take_stock().await {
                    Ok(fresh) => position = fresh,
                    Err(refusal) => tracing::warn!(message = refusal.message, "the pods cannot be read"),
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

    /// Passes changes on; an error when some are no longer known.
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

    /// A pod is there, in this state.
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
            let worker = node.workers().remove(&uid);
            if worker.is_some_and(|worker| worker.borrow().is_none()) {
                node.dispose(&uid);
            }
        });
    }

    /// A pod is gone.
    fn pod_was(self: &Arc<Self>, uid: &str) {
        if let Some(worker) = self.workers().get(uid) {
            worker.send_replace(None);
            return;
        }
        self.dispose(uid);
    }

    /// Removes what is kept of a pod or claim that is gone, and then the record that says so.
    fn dispose(self: &Arc<Self>, uid: &str) {
        let (node, uid) = (Arc::clone(self), uid.to_owned());
        self.tracker.spawn(async move {
            if let Err(refusal) = node.clear_away(&uid).await {
                let message = refusal.message;
                tracing::warn!(
                    uid,
                    message,
                    "what is left of an object is looked for again at the next start"
                );
            }
        });
    }

    async fn clear_away(self: &Arc<Self>, uid: &str) -> Result<(), Refusal> {
        // A power cut that takes back that the object is gone must find its folder: without the folder its command would run again.
        self.store.persist(self.store.hub().newest()).await?;
        let (node, gone) = (Arc::clone(self), uid.to_owned());
        let taken = tokio::task::spawn_blocking(move || node.remove(&gone)).await;
        for folder in taken.map_err(Refusal::internal)?.map_err(Refusal::internal)? {
            let Taken::InPlace(removed) = folder else { continue };
            tokio::select! {
                removed = removed => removed.map_err(|_| Refusal::internal("its folder cannot be removed"))?,
                // The next start goes on with it.
                () = self.stopping.cancelled() => return Ok(()),
            }
        }
        let gone = uid.to_owned();
        let forgotten = self.store.write(Durability::Process, true, move |transaction| {
            transaction.forget_leftover(&gone)
        });
        forgotten.await
    }

    /// Ends what may still run of a pod, and takes away its folder, or that of a claim.
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

    /// The log of a pod.
    pub fn log(self: &Arc<Self>, pod: &Object, wanted: Wanted) -> LogReader {
        let folder = self.folder(pod.uid());
        LogReader::open(folder, self.followers.clone(), self.aside.clone(), wanted)
    }
}

/// Ends what runs in a container's folder, and waits until it has, but not for ever: nobody may be able to say which process it is.
fn end(folder: &Folder) -> io::Result<()> {
    let deadline = Instant::now() + END_PATIENCE;
    loop {
        match folder.take() {
            Ok(Some(_)) => return Ok(()),
            Ok(None) if Instant::now() < deadline => {}
            Ok(None) => return Err(io::Error::other("its container does not end")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        }
        worker::kill(folder);
        // Only somebody who waits without an end hears from a lock.
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
            "the database knows nothing of this; it was moved aside, and nothing of it was removed"
        ),
        Err(error) => tracing::warn!(path = %path.display(), %error, "cannot be moved aside"),
    }
}

fn read(object: &Bytes, plural: &'static str) -> Option<Object> {
    let value = serde_json::from_slice(object).ok()?;
    Some(Object {
        kind: kind_of(plural),
        value,
    })
}
