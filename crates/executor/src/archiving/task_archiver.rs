//! Archives one task: the logs of its pods as they are written, and its record once it has ended or is gone.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use archive::RecordKey;
use task::record::PodLogRecord;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::context::ArchivingContext;
use super::pod_archiver::{archive_pod, end_log};
use super::record::final_record;
use crate::cache::{self, Cache, NodePod, TaskKey, TaskSnapshot};
use crate::error::Error;
use crate::kubernetes::{self, ConfigMap, Job, ObjectRef, ResourceExt};
use crate::labels;
use crate::logs::PodLog;
use crate::record_key::record_key;

/// How long to wait before a task that has disappeared is looked for again.
const RECHECK_PAUSE: Duration = Duration::from_secs(2);

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
    ended: OnceLock<Arc<TaskSnapshot>>,
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

    fn removed(&self) -> Option<Arc<TaskSnapshot>> {
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

/// Archives a task until its record is written. Returns false if the server stops before.
pub(super) async fn archive_task(
    context: Arc<ArchivingContext>,
    tracked: Arc<TrackedTask>,
    first: Arc<TaskSnapshot>,
    stop: CancellationToken,
) -> bool {
    let mut archiver = TaskArchiver {
        context,
        last: first,
        pods: JoinSet::new(),
        done: HashSet::new(),
        followed: HashSet::new(),
        logs: Vec::new(),
        tracked,
        stop,
    };
    if archiver.run().await.is_none() {
        return false;
    }
    let progress = &archiver.tracked.progress;
    progress.send_modify(|progress| progress.is_archived = true);
    true
}

struct TaskArchiver {
    context: Arc<ArchivingContext>,
    tracked: Arc<TrackedTask>,
    stop: CancellationToken,
    /// The newest snapshot that was seen.
    last: Arc<TaskSnapshot>,
    pods: JoinSet<(String, Option<PodLogRecord>)>,
    /// The pods whose logs are archived.
    done: HashSet<String>,
    /// These, and those whose logs are being archived.
    followed: HashSet<String>,
    logs: Vec<PodLogRecord>,
}

impl TaskArchiver {
    /// Returns `None` if the server stops.
    async fn run(&mut self) -> Option<()> {
        let (context, stop) = (Arc::clone(&self.context), self.stop.clone());
        let cache = &context.origin.cache;
        let record = self.tracked.record.clone();
        // A record is written when the task has ended. Whether there is one need not be known to archive it.
        if self.last.state.is_final() {
            let has_record = self.tracked.hurry.run_until_cancelled(context.has_record(&record));
            if stop.run_until_cancelled(has_record).await? == Some(true) {
                return Some(());
            }
        }
        loop {
            let changes = cache.subscribe(&self.tracked.key);
            let snapshot = cache.snapshot(&self.tracked.key);
            let is_gone = snapshot.is_none();
            let last = snapshot.or_else(|| self.tracked.removed());
            if let Some(last) = last {
                self.follow_pods(&record, &last);
                self.last = last;
            }
            if self.pods.is_empty() && self.may_be_recorded(is_gone).await {
                break;
            }
            let is_over = is_gone || self.last.outcome.is_some();
            let has_changed = async {
                match changes {
                    Some(mut changes) if is_over => drop(timeout(RECHECK_PAUSE, changes.changed()).await),
                    Some(mut changes) => drop(changes.changed().await),
                    None => sleep(RECHECK_PAUSE).await,
                }
            };
            tokio::select! {
                () = has_changed => {}
                Some(archived) = self.pods.join_next() => {
                    // The archiver of a pod is never aborted, and does not panic.
                    if let Ok((uid, Some(log))) = archived {
                        self.done.insert(uid);
                        self.logs.push(log);
                    }
                }
                () = stop.cancelled() => {
                    while self.pods.join_next().await.is_some() {}
                    return None;
                }
            }
        }
        self.write_record(&record).await;
        Some(())
    }

    /// Starts to archive the logs of new pods.
    fn follow_pods(&mut self, record: &RecordKey, snapshot: &Arc<TaskSnapshot>) {
        for node in &snapshot.nodes {
            let Some(pod) = &node.pod else { continue };
            if !self.followed.insert(pod.uid.clone()) {
                continue;
            }
            let log = PodLog::of_node(&snapshot.key, record, snapshot.num_nodes, node, pod);
            let (context, stop) = (Arc::clone(&self.context), self.stop.clone());
            let tracked = TrackedPod {
                task: Arc::clone(&self.tracked),
                uid: pod.uid.clone(),
            };
            self.pods.spawn(async move {
                let log = archive_pod(&context, log, &tracked, &stop).await;
                (tracked.uid, log)
            });
        }
    }

    /// Whether the task has ended for good, and all of its logs are archived.
    async fn may_be_recorded(&self, is_gone: bool) -> bool {
        let last = &self.last;
        let is_done = |node: &NodePod| node.ended || node.pod.as_ref().is_some_and(|pod| self.done.contains(&pod.uid));
        if last.outcome.is_some() && last.nodes.iter().all(is_done) {
            return self.knows_all_pods().await.unwrap_or(false);
        }
        // A record cannot be taken back, so the cache alone does not decide.
        is_gone && self.is_deleted(last).await.unwrap_or(false)
    }

    /// Whether every pod with a log is known. The watches are independent: a Job may have ended before its pod is seen.
    async fn knows_all_pods(&self) -> Result<bool, Error> {
        if self.last.nodes.iter().all(|node| node.pod.is_some()) {
            return Ok(true);
        }
        let selector = format!("{}={}", labels::TASK_ID, self.last.key.id);
        let client = &self.context.origin.client;
        let pods = client
            .list::<kubernetes::Pod>("list the pods of the task", &selector)
            .await?;
        let mut pods = pods.into_iter().filter_map(|pod| cache::Pod::from_resource(pod).ok());
        let is_ours = |pod: &cache::Pod| self.last.jobs.iter().any(|job| job.uid == pod.job_uid);
        Ok(!pods.any(|pod| is_ours(&pod) && pod.has_log() && !self.followed.contains(&pod.uid)))
    }

    /// Whether Kubernetes does not have the task anymore.
    async fn is_deleted(&self, last: &TaskSnapshot) -> Result<bool, Error> {
        const ACTION: &str = "check whether the task was deleted";
        let client = &self.context.origin.client;
        let is_same = |uid: Option<String>, object: &ObjectRef| uid.as_ref() == Some(&object.uid);
        if let Some(owner) = &last.owned_by {
            let found = client.get::<ConfigMap>(ACTION, &owner.name).await?;
            return Ok(!found.is_some_and(|found| is_same(found.uid(), owner)));
        }
        for job in &last.jobs {
            let found = client.get::<Job>(ACTION, &job.name).await?;
            if found.is_some_and(|found| is_same(found.uid(), job)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn write_record(&mut self, key: &RecordKey) {
        let mut logs = std::mem::take(&mut self.logs);
        // An earlier server may have followed other pods.
        for log in self.context.logs_of(key).await {
            if !self.done.contains(&log.pod) {
                logs.push(end_log(&self.context, log, &self.tracked.user).await);
            }
        }
        let ended = self.tracked.ended.get().filter(|_| !self.last.state.is_final());
        let last = ended.unwrap_or(&self.last);
        logs.sort_by_key(|log| (log.rank, log.attempt));
        let now = self.context.origin.client.now();
        let Some(record) = final_record(last, now, logs) else {
            return;
        };
        self.context.put_record(key, &record).await;
    }
}
