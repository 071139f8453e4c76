//! Archives one task: the logs of its pods as they are written, and its record once it has ended or is gone.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use archive::RecordKey;
use task::record::PodLogRecord;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::context::ArchivingContext;
use super::pod_archiver::{archive_pod, end_log};
use super::progress::{TrackedPod, TrackedTask};
use super::record::final_record;
use crate::cache::{self, NodePod, TaskSnapshot};
use crate::error::Error;
use crate::kubernetes::{self, ConfigMap, Job, ObjectRef, ResourceExt};
use crate::labels;
use crate::logs::PodLog;

/// How long to wait before a task that has disappeared is looked for again.
const RECHECK_PAUSE: Duration = Duration::from_secs(2);

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
