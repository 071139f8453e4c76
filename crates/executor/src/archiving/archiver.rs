//! Archives all tasks: starts an archiver for each, and answers how far it is.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use archive::{Archive, InUse};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::context::ArchivingContext;
use super::progress::{Progress, TrackedTask};
use super::task_archiver::archive_task;
use crate::cache::{Health, TaskChange, TaskKey, TaskSnapshot};
use crate::logs::LogOrigin;
use crate::record_key::record_key;

/// How long a stop waits for the logs of a task that has ended.
const RECORD_PATIENCE: Duration = Duration::from_secs(10);

/// How long a stop waits until the logs of a running task are followed as they are written, so that their ends are read. A
/// log that is written faster than it is read may take longer.
const FOLLOW_PATIENCE: Duration = Duration::from_secs(10);

/// How long a stop waits until the logs are read if the archive does not answer.
const STUCK_PATIENCE: Duration = Duration::from_secs(1);

/// How long a log may wait for room in the archive before a stop goes on without it. Most often, older logs make room.
const ROOM_PATIENCE: Duration = Duration::from_secs(1);

/// How long a reader of a task that is gone waits until what was read of its logs is in the archive. It is written at once.
const UNWRITTEN_PATIENCE: Duration = Duration::from_secs(5);

/// How long a follower waits for the end of a task that was stopped: its processes have 30 seconds by default, and at most
/// ten minutes.
const ENDING_PATIENCE: Duration = Duration::from_secs(660);

/// How long a server that stops writes what it has read.
const FLUSH_PATIENCE: Duration = Duration::from_secs(2);

/// How often a stop looks whether a new task is tracked, and at most how many times.
const TRACK_POLL: Duration = Duration::from_millis(10);
const TRACK_POLLS: u32 = 100;

/// Archives all tasks.
pub(crate) struct Archiver {
    context: Arc<ArchivingContext>,
    cache_health: Arc<Health>,
    /// The tasks that are being archived, and `None` for those that are archived and not gone: most tasks, for weeks.
    tasks: Mutex<Tasks>,
}

type Tasks = HashMap<Arc<TaskKey>, Option<Arc<TrackedTask>>>;

/// How far the archive is behind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ArchiveBacklog {
    /// How long the oldest lines that were read have been waiting to be written.
    pub lag: Duration,
    /// The number of logs that wait for room.
    pub waiting_logs: usize,
    /// Whether there is no room for anybody's logs.
    pub is_full: bool,
}

/// How far the archiver of a task is.
enum Tracked {
    Archiving(Arc<TrackedTask>),
    Archived,
}

impl Archiver {
    /// `origin` must not read from the archive itself.
    pub(crate) fn new(archive: Archive, origin: LogOrigin, cache_health: Arc<Health>) -> Arc<Self> {
        origin.cache.enable_task_changes();
        Arc::new(Self {
            context: ArchivingContext::new(archive, origin),
            cache_health,
            tasks: Mutex::default(),
        })
    }

    /// Starts and ends the archivers of tasks until shutdown.
    pub(crate) async fn run(self: Arc<Self>, stop: CancellationToken, tracker: TaskTracker) {
        let (archiver, stop_chores) = (Arc::clone(&self), stop.clone());
        tracker.spawn(async move {
            let in_use = || archiver.in_use();
            let chores = async {
                tokio::join!(archiver.context.watch_disk(), archiver.context.run_pruning(in_use));
            };
            stop_chores.run_until_cancelled(chores).await;
        });
        while let Some(changes) = stop
            .run_until_cancelled(self.context.origin.cache.take_task_changes())
            .await
        {
            for change in changes {
                match change {
                    TaskChange::Added(first) => self.start(first, &stop, &tracker),
                    TaskChange::Removed(last) => self.remove(last),
                }
            }
        }
    }

    fn start(self: &Arc<Self>, first: Arc<TaskSnapshot>, stop: &CancellationToken, tracker: &TaskTracker) {
        let key = Arc::clone(&first.key);
        // A task that was gone for a moment is still tracked.
        if self.tracked(&key).is_some() {
            return;
        }
        let tracked = Arc::new(TrackedTask::new(&first));
        self.lock().insert(Arc::clone(&key), Some(Arc::clone(&tracked)));
        let (archiver, stop) = (Arc::clone(self), stop.clone());
        tracker.spawn(async move {
            let archiving = archive_task(Arc::clone(&archiver.context), tracked, first, stop.clone());
            let deadline = async {
                stop.cancelled().await;
                sleep(FLUSH_PATIENCE).await;
            };
            tokio::select! {
                is_archived = Box::pin(archiving) => if is_archived {
                    archiver.set_archived(&key);
                },
                () = deadline => {}
            }
        });
    }

    fn remove(&self, last: Arc<TaskSnapshot>) {
        let key = Arc::clone(&last.key);
        match self.tracked(&key) {
            Some(Tracked::Archiving(task)) => task.set_removed(last),
            Some(Tracked::Archived) => self.forget_if_gone(&key),
            None => {}
        }
    }

    /// Drops everything about an archived task except that it is archived.
    fn set_archived(&self, key: &Arc<TaskKey>) {
        if let Some(task) = self.lock().get_mut(key) {
            *task = None;
        }
        self.context.origin.cache.end_subscription(key);
        self.forget_if_gone(key);
        self.context.note_archived();
    }

    /// Forgets a task that is archived and gone.
    fn forget_if_gone(&self, key: &Arc<TaskKey>) {
        let mut tasks = self.lock();
        let is_archived = tasks.get(key).is_some_and(Option::is_none);
        if is_archived && self.context.origin.cache.snapshot(key).is_none() {
            tasks.remove(key);
        }
    }

    /// Waits, but not for long, until the archive can do without the objects of a task.
    pub(crate) async fn before_delete(&self, snapshot: &Arc<TaskSnapshot>) {
        let Some(Tracked::Archiving(tracked)) = self.wait_for_tracked(&snapshot.key).await else {
            return;
        };
        tracked.set_deleted(snapshot);
        tracked.hurry.cancel();
        let has_ended = snapshot.state.is_final() && snapshot.nodes.iter().all(|node| node.ended);
        let mut progress = tracked.progress.subscribe();
        let pods = || snapshot.nodes.iter().filter_map(|node| node.pod.as_ref());
        let follows_all = |progress: &Progress| pods().all(|pod| progress.live.contains(&pod.uid));
        let is_read = |progress: &Progress| progress.is_archived || follows_all(progress);
        let is_ready = |progress: &Progress| progress.is_archived || (!has_ended && follows_all(progress));
        let patience = if has_ended { RECORD_PATIENCE } else { FOLLOW_PATIENCE };
        let ready = tokio::select! {
            ready = timeout(patience, progress.wait_for(is_ready)) => ready.is_ok(),
            () = self.context.health.until_stuck() => false,
            () = until_full(tracked.progress.subscribe()) => false,
        };
        // What is in memory is written once the archive works again.
        if !ready && timeout(STUCK_PATIENCE, progress.wait_for(is_read)).await.is_err() {
            tracing::warn!(task_id = &*snapshot.key.id, "a task is deleted before its log is read");
        }
    }

    /// A task that was submitted just now is tracked a moment later.
    async fn wait_for_tracked(&self, key: &TaskKey) -> Option<Tracked> {
        for _ in 0..TRACK_POLLS {
            if let Some(tracked) = self.tracked(key) {
                return Some(tracked);
            }
            sleep(TRACK_POLL).await;
        }
        None
    }

    /// The last snapshots of tasks that are gone and not archived yet.
    pub(crate) fn ending(&self) -> Vec<Arc<TaskSnapshot>> {
        let cache = &self.context.origin.cache;
        let is_gone = |snapshot: &Arc<TaskSnapshot>| cache.snapshot(&snapshot.key).is_none();
        let tasks: Vec<Arc<TrackedTask>> = self.lock().values().flatten().cloned().collect();
        tasks.iter().filter_map(|task| task.ending()).filter(is_gone).collect()
    }

    /// Waits, but not forever, until a task that is gone is archived.
    pub(crate) async fn wait_for_archived(&self, key: &TaskKey) {
        let Some(Tracked::Archiving(tracked)) = self.tracked(key) else {
            return;
        };
        let mut progress = tracked.progress.subscribe();
        // A reader gets what there is by then.
        let _ = timeout(ENDING_PATIENCE, progress.wait_for(|progress| progress.is_archived)).await;
    }

    /// Waits, but not for long, until what was read of the logs of a task that is gone is in the archive.
    pub(crate) async fn wait_for_written(&self, key: &TaskKey) {
        let Some(Tracked::Archiving(tracked)) = self.tracked(key) else {
            return;
        };
        tracked.hurry.cancel();
        let mut progress = tracked.progress.subscribe();
        let is_written = |progress: &Progress| progress.is_archived || progress.unwritten.is_empty();
        // A reader gets what there is by then.
        let _ = timeout(UNWRITTEN_PATIENCE, progress.wait_for(is_written)).await;
    }

    /// How far the archive is behind.
    pub(crate) fn backlog(&self) -> ArchiveBacklog {
        let tasks: Vec<Arc<TrackedTask>> = self.lock().values().flatten().cloned().collect();
        let mut backlog = ArchiveBacklog {
            is_full: self.context.has_no_room(),
            ..ArchiveBacklog::default()
        };
        for task in tasks {
            let progress = task.progress.borrow();
            backlog.waiting_logs += progress.waiting.len();
            let oldest = progress.unwritten.values().map(Instant::elapsed).max();
            backlog.lag = backlog.lag.max(oldest.unwrap_or_default());
        }
        backlog
    }

    /// Lets the archive do without the objects of a task soon: its logs wait no longer for room.
    pub(crate) fn hurry(&self, key: &TaskKey) {
        if let Some(Tracked::Archiving(tracked)) = self.tracked(key) {
            tracked.hurry.cancel();
        }
    }

    /// Whether the record and all logs of a task are in the archive.
    pub(crate) fn is_archived(&self, key: &TaskKey) -> bool {
        matches!(self.tracked(key), Some(Tracked::Archived))
    }

    /// What must stay in the archive; `None` if this server may lack tasks that exist.
    fn in_use(&self) -> Option<InUse> {
        self.cache_health.check().ok()?;
        let present = self.context.origin.cache.tasks(None);
        let mut in_use = InUse::default();
        let tasks = self.lock();
        for (_, snapshot) in present {
            let key = record_key(&snapshot);
            let is_archived = tasks.get(&snapshot.key).is_some_and(Option::is_none);
            if !is_archived {
                in_use.written.insert(key.clone(), snapshot.username.as_str().into());
            }
            in_use.existing.insert(key);
        }
        // Tasks that are gone are written to until they are archived.
        for task in tasks.values().flatten() {
            in_use.written.insert(task.record.clone(), Arc::clone(&task.user));
        }
        Some(in_use)
    }

    fn tracked(&self, key: &TaskKey) -> Option<Tracked> {
        let tasks = self.lock();
        Some(match tasks.get(key)? {
            Some(task) => Tracked::Archiving(Arc::clone(task)),
            None => Tracked::Archived,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Tasks> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits until the logs of a task wait for room in the archive and find none.
async fn until_full(mut progress: watch::Receiver<Progress>) {
    let waits = |progress: &Progress| !progress.waiting.is_empty();
    // The sender is held by the caller.
    while progress.wait_for(waits).await.is_ok() {
        let finds_room = progress.wait_for(|progress| !waits(progress));
        if timeout(ROOM_PATIENCE, finds_room).await.is_err() {
            return;
        }
    }
}
