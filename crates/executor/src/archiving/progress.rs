//! How far the archive is with each task and pod: what its archivers tell the rest of the server.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use archive::RecordKey;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::cache::{Cache, NodePod, TaskKey, TaskSnapshot};
use crate::record_key::record_key;

/// How far the archive is with a task.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The uids of the pods of which everything is read that they write now.
    pub live: HashSet<String>,
    /// The uids of the pods whose logs wait for room in the archive.
    pub waiting: HashSet<String>,
    /// The uids of the pods of which something has been read and is not in the archive, and since when.
    pub unwritten: HashMap<String, Instant>,
    /// Whether the record was written, and all logs before it.
    pub is_archived: bool,
}

/// What the rest of the server knows about the archiver of a task.
pub(super) struct TrackedTask {
    pub key: Arc<TaskKey>,
    pub record: RecordKey,
    pub user: Arc<str>,
    pub progress: watch::Sender<Progress>,
    /// Canceled once the logs must be read without delay: the task is about to be deleted.
    pub hurry: CancellationToken,
    /// The last snapshot of the task, once it is gone.
    removed: Mutex<Option<Arc<TaskSnapshot>>>,
    /// How it had ended when this server began to delete it. Its objects go one after another, and what is left of them may
    /// not tell.
    pub ended: OnceLock<Arc<TaskSnapshot>>,
}

impl TrackedTask {
    pub(crate) fn new(first: &TaskSnapshot) -> Self {
        Self {
            key: Arc::clone(&first.key),
            record: record_key(first),
            user: first.username.as_str().into(),
            progress: watch::Sender::new(Progress::default()),
            hurry: CancellationToken::new(),
            removed: Mutex::default(),
            ended: OnceLock::new(),
        }
    }

    /// Notes what the task is when it is about to be deleted.
    pub(crate) fn set_deleted(&self, snapshot: &Arc<TaskSnapshot>) {
        if snapshot.state.is_final() {
            self.ended.get_or_init(|| Arc::clone(snapshot));
        }
    }

    /// Notes that the task is gone.
    pub(crate) fn set_removed(&self, last: Arc<TaskSnapshot>) {
        *self.removed.lock().unwrap_or_else(PoisonError::into_inner) = Some(last);
    }

    /// The last snapshot of a task that is gone and not archived yet.
    pub(crate) fn ending(&self) -> Option<Arc<TaskSnapshot>> {
        let removed = self.removed.lock().unwrap_or_else(PoisonError::into_inner);
        removed.clone().filter(|_| !self.progress.borrow().is_archived)
    }

    pub(crate) fn removed(&self) -> Option<Arc<TaskSnapshot>> {
        self.removed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What the archiver of a pod tells the rest of the server, and asks it.
pub(super) struct TrackedPod {
    pub task: Arc<TrackedTask>,
    pub uid: String,
}

impl TrackedPod {
    /// Says whether everything that the pod writes now will be read, even if the pod is deleted.
    pub(crate) fn set_live(&self, is_live: bool) {
        self.set(|progress| &mut progress.live, is_live);
    }

    /// Says whether the log waits for room in the archive.
    pub(crate) fn set_waiting(&self, is_waiting: bool) {
        self.set(|progress| &mut progress.waiting, is_waiting);
    }

    /// Says since when something has been read that is not in the archive, if there is anything.
    pub(crate) fn set_unwritten(&self, since: Option<Instant>) {
        self.task.progress.send_if_modified(|progress| {
            let unwritten = &mut progress.unwritten;
            match (unwritten.get_mut(&self.uid), since) {
                (Some(before), Some(since)) => *before = since,
                (None, Some(since)) => drop(unwritten.insert(self.uid.clone(), since)),
                (_, None) => return unwritten.remove(&self.uid).is_some(),
            }
            false
        });
    }

    fn set(&self, set: fn(&mut Progress) -> &mut HashSet<String>, contains: bool) {
        self.task.progress.send_if_modified(|progress| {
            let set = set(progress);
            if contains {
                !set.contains(&self.uid) && set.insert(self.uid.clone())
            } else {
                set.remove(&self.uid)
            }
        });
    }

    /// Whether Kubernetes has the log, and will have it for a while: nothing is lost if the archive waits.
    pub(crate) fn keeps_log(&self, cache: &Cache) -> bool {
        let is_it = |node: &NodePod| node.pod.as_ref().is_some_and(|pod| pod.uid == self.uid);
        let has_pod = |snapshot: Arc<TaskSnapshot>| !snapshot.terminating && snapshot.nodes.iter().any(is_it);
        !self.task.hurry.is_cancelled() && cache.snapshot(&self.task.key).is_some_and(has_pod)
    }
}
