//! The node: it runs the pods that were given to this machine, each in a worker of its own.

mod addresses;
mod control_group;
mod environment;
mod follow;
mod log;
mod machine;
mod plan;
mod projection;
mod readiness;
mod status;
mod volumes;
mod worker;

pub use log::{LogReader, Wanted};
pub use machine::{name as node_name, node_object};

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::addresses::Addresses;
use self::control_group::ControlGroups;
use self::follow::Followers;
use crate::aside::Aside;
use crate::container::Folder;
use crate::object::{Object, kind_of};
use crate::refusal::Refusal;
use crate::store::{self, Hub, Store};

/// The newest state of a pod; `None` when it was removed.
type Newest = Option<Arc<Object>>;

/// How to run pods.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where everything is kept.
    pub state: PathBuf,
    /// How large the log of a pod may grow, in bytes.
    pub log_limit: u64,
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
    stopping: CancellationToken,
    tracker: TaskTracker,
}

impl Node {
    /// The node of a store.
    pub fn new(store: Arc<Store>, settings: Settings, stopping: CancellationToken) -> Self {
        Self {
            store,
            settings,
            workers: Mutex::default(),
            addresses: Addresses::default(),
            control_groups: ControlGroups::find(),
            followers: Followers::start(),
            aside: Aside::default(),
            stopping,
            tracker: TaskTracker::new(),
        }
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
        let position = self.take_stock().await?;
        let node = Arc::clone(self);
        self.tracker.spawn(async move { node.follow(position).await });
        self.tracker.close();
        Ok(())
    }

    /// Waits until nothing is under way any more. The containers run on.
    pub async fn stopped(&self) {
        self.tracker.wait().await;
    }

    /// All that is there: pods get their workers, and what belongs to nothing any more goes.
    async fn take_stock(self: &Arc<Self>) -> Result<i64, Refusal> {
        let position = self.store.hub().newest();
        let active = self
            .store
            .write(store::Durability::Process, true, |transaction| {
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
        self.sweep("pods", |node, uid| node.dispose(uid)).await?;
        self.sweep("volumes", |node, uid| remove_folder(&node.volume(uid)))
            .await?;
        Ok(position)
    }

    /// Removes what is kept for objects that are no longer there.
    async fn sweep(self: &Arc<Self>, what: &str, dispose: fn(&Arc<Self>, &str)) -> Result<(), Refusal> {
        let Ok(entries) = std::fs::read_dir(self.settings.state.join(what)) else {
            return Ok(());
        };
        let uids = entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok());
        for uid in self.unknown(uids.collect()).await? {
            dispose(self, &uid);
        }
        Ok(())
    }

    /// Those for which there is no object.
    async fn unknown(&self, uids: Vec<String>) -> Result<Vec<String>, Refusal> {
        self.store
            .write(store::Durability::Process, true, move |transaction| {
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
                remove_folder(&self.volume(claim.uid()));
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

    /// Ends what may still run of a pod that is gone, and removes what is kept of it.
    fn dispose(self: &Arc<Self>, uid: &str) {
        let folder = self.folder(uid);
        let node = Arc::clone(self);
        self.tracker.spawn_blocking(move || {
            while let Ok(None) = folder.take() {
                worker::kill(&folder);
                if folder.wait().is_err() {
                    break;
                }
            }
            if let Some(order) = folder.order() {
                node.control_groups.remove(&order.control_groups);
            }
            folder.remove();
        });
    }

    /// The log of a pod.
    pub fn log(self: &Arc<Self>, pod: &Object, wanted: Wanted) -> LogReader {
        let folder = self.folder(pod.uid());
        LogReader::open(folder, self.followers.clone(), self.aside.clone(), wanted)
    }
}

fn read(object: &Bytes, plural: &'static str) -> Option<Object> {
    let value = serde_json::from_slice(object).ok()?;
    Some(Object {
        kind: kind_of(plural),
        value,
    })
}

fn remove_folder(path: &Path) {
    if let Err(error) = std::fs::remove_dir_all(path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(folder = %path.display(), %error, "cannot be removed");
    }
}
