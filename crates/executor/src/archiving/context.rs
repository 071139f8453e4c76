//! What the archivers of a server share: the archive, with retries until it works, and where logs come from.

use std::future::Future;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use archive::{Archive, Frame, InUse, LogKey, LogState, Put, RecordKey};
use task::record::TaskRecord;
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, sleep, timeout};

use super::progress::TrackedPod;
use super::store_health::StoreHealth;
use crate::backoff::Backoff;
use crate::log_throttle::LogThrottle;
use crate::logs::LogOrigin;

/// The pauses between tries while the archive fails.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// How long a log waits for room in a full archive once its pod is gone, or about to go. Then the rest of it is given up.
const FULL_PATIENCE: Duration = Duration::from_secs(60);

/// Why the rest of a log is missing.
const FULL: &str = "the archive is full";
const USER_FULL: &str = "the user's logs have reached their limit in the archive";
const DAMAGED: &str = "what is in the archive is damaged";

/// How often what is beyond the limits is deleted, and how soon after the archive was found full again.
const PRUNE_INTERVAL: Duration = Duration::from_secs(600);
const FULL_PAUSE: Duration = Duration::from_secs(2);

/// How many records are looked for at once. A server that starts may look for thousands, which must not keep the logs of
/// tasks that run from being written.
const MAX_RECORD_CHECKS: usize = 8;

/// The size of all buffers together. Beyond it, what is written has to be read again later.
const MAX_BUFFERED: usize = 256 << 20;

/// What the archivers of a server share. Its methods try until the archive works.
pub(super) struct ArchivingContext {
    archive: Archive,
    pub origin: LogOrigin,
    log_throttle: LogThrottle,
    pub health: StoreHealth,
    /// Held while the archive is asked for a record.
    record_checks: Semaphore,
    /// Notified when a frame found no room.
    full: Notify,
    /// Notified when a task is archived, so that its logs can make room.
    archived: Notify,
    /// Whether the last frame found no room.
    is_full: AtomicBool,
    /// The size of everything that is read and not written.
    buffered: AtomicUsize,
}

impl ArchivingContext {
    pub(crate) fn new(archive: Archive, origin: LogOrigin) -> Arc<Self> {
        Arc::new(Self {
            archive,
            origin,
            log_throttle: LogThrottle::default(),
            health: StoreHealth::default(),
            record_checks: Semaphore::new(MAX_RECORD_CHECKS),
            full: Notify::new(),
            archived: Notify::new(),
            is_full: AtomicBool::new(false),
            buffered: AtomicUsize::new(0),
        })
    }

    /// Notes that a buffer of this size has another one now.
    pub(crate) fn note_buffered(&self, before: usize, now: usize) {
        self.buffered.fetch_add(now, Ordering::Relaxed);
        self.buffered.fetch_sub(before, Ordering::Relaxed);
    }

    /// Whether all buffers together leave room for more.
    pub(crate) fn may_buffer(&self) -> bool {
        self.buffered.load(Ordering::Relaxed) < MAX_BUFFERED
    }

    /// Notes that a task is archived, with all of its logs.
    pub(crate) fn note_archived(&self) {
        self.archived.notify_one();
    }

    /// Whether a limit or the disk leaves no room for anybody's logs.
    pub(crate) fn has_no_room(&self) -> bool {
        !self.archive.has_room()
    }

    /// Whether the last frame found no room.
    pub(crate) fn is_full(&self) -> bool {
        self.is_full.load(Ordering::Relaxed)
    }

    pub(crate) async fn has_record(&self, key: &RecordKey) -> bool {
        // The index needs no call.
        let indexed = self.archive.indexed(std::slice::from_ref(key)).await;
        if indexed.is_ok_and(|indexed| !indexed.is_empty()) {
            return true;
        }
        // The semaphore is never closed.
        let _permit = self.record_checks.acquire().await;
        // A record that cannot be read is one.
        self.retry(|| self.archive.has_record(key)).await.unwrap_or(true)
    }

    pub(crate) async fn put_record(&self, key: &RecordKey, record: &TaskRecord) {
        self.retry(|| self.archive.put_record(key, record)).await;
    }

    /// The log of a task of this user. Returns `None` if what is there of it is damaged.
    pub(crate) async fn log(&self, key: &LogKey, user: &Arc<str>) -> Option<LogState> {
        let log = self.retry(|| self.archive.log(key.clone())).await?;
        Some(log.of_user(user))
    }

    /// The logs of a task that are in the archive.
    pub(crate) async fn logs_of(&self, key: &RecordKey) -> Vec<LogKey> {
        self.retry(|| self.archive.logs_of(key)).await.unwrap_or_default()
    }

    /// Writes a frame. Waits for room as long as the pod keeps its log.
    ///
    /// # Errors
    /// Why the rest of the log is given up: there has been no room for a while, or what is there of the log is damaged.
    pub(crate) async fn put_frame(
        &self,
        log: &mut LogState,
        frame: &Frame,
        pod: &TrackedPod,
    ) -> Result<Put, &'static str> {
        let mut pauses = pauses();
        let mut full_since = None;
        loop {
            let put = self.watched(log.put(frame)).await;
            self.is_full
                .store(matches!(put, Err(archive::Error::Full)), Ordering::Relaxed);
            let full = match put {
                Err(archive::Error::Full) => Some(FULL),
                Err(archive::Error::UserFull) => Some(USER_FULL),
                _ => None,
            };
            pod.set_waiting(full.is_some());
            if let Some(why) = full {
                if pod.keeps_log(&self.origin.cache) {
                    full_since = None;
                }
                let since = *full_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= FULL_PATIENCE {
                    pod.set_waiting(false);
                    return Err(why);
                }
                self.full.notify_one();
            }
            if let ControlFlow::Break(put) = self.settle(put, &mut pauses).await {
                return put.ok_or(DAMAGED);
            }
        }
    }

    /// Writes a notice in a log, also if the archive is full.
    pub(crate) async fn put_notice(&self, log: &mut LogState, notice: &Frame) {
        let mut pauses = pauses();
        while self
            .settle(self.watched(log.put_anyway(notice)).await, &mut pauses)
            .await
            .is_continue()
        {}
    }

    pub(crate) async fn end_log(&self, log: &mut LogState, lost: Option<&str>) {
        let mut pauses = pauses();
        while self
            .settle(self.watched(log.end(lost)).await, &mut pauses)
            .await
            .is_continue()
        {}
    }

    /// Looks how full the disk of the archive is, and for what killed servers have left, until the process ends.
    pub(crate) async fn watch_disk(&self) {
        tokio::join!(self.archive.watch_disk(), self.archive.delete_leftovers());
    }

    /// Deletes what is beyond the limits of the archive until shutdown: now and then, and when it is full. `in_use` says
    /// what must stay, if that is known.
    pub(crate) async fn run_pruning(&self, in_use: impl Fn() -> Option<InUse>) {
        let mut full_pause = Backoff::new(FULL_PAUSE, PRUNE_INTERVAL);
        loop {
            if let Err(error) = self.archive.prune(self.origin.client.now(), &in_use).await {
                self.failed(&error, &mut pauses()).await;
            }
            if self.archive.has_room_for_all() {
                full_pause.reset();
            } else {
                // Perhaps all logs are those of live tasks; one that is archived is not anymore.
                sleep(FULL_PAUSE).await;
                let _ = timeout(full_pause.next(), self.archived.notified()).await;
            }
            let _ = timeout(PRUNE_INTERVAL, self.full.notified()).await;
        }
    }

    /// Returns `None` if an object is not what it should be: no retry helps.
    async fn retry<T, Call: Future<Output = Result<T, archive::Error>>>(&self, call: impl Fn() -> Call) -> Option<T> {
        let mut pauses = pauses();
        loop {
            if let ControlFlow::Break(value) = self.settle(self.watched(call()).await, &mut pauses).await {
                return value;
            }
        }
    }

    /// Makes a call that counts for the health of the archive.
    async fn watched<T>(&self, call: impl Future<Output = T>) -> T {
        let _call = self.health.begin_call();
        call.await
    }

    /// Decides whether to try again, and pauses before that. `None` if an object is not what it should be.
    async fn settle<T>(&self, called: Result<T, archive::Error>, pauses: &mut Backoff) -> ControlFlow<Option<T>> {
        match called {
            Ok(value) => {
                self.health.note(false);
                ControlFlow::Break(Some(value))
            }
            Err(error @ archive::Error::Invalid { .. }) => {
                tracing::error!(%error, "the archive is damaged");
                ControlFlow::Break(None)
            }
            // The archive works for others.
            Err(archive::Error::UserFull) => {
                sleep(pauses.next()).await;
                ControlFlow::Continue(())
            }
            Err(error) => {
                self.failed(&error, pauses).await;
                ControlFlow::Continue(())
            }
        }
    }

    async fn failed(&self, error: &archive::Error, pauses: &mut Backoff) {
        self.health.note(true);
        metrics::counter!("k8s_cli_archive_failures_total").increment(1);
        if self.log_throttle.allow("archive").is_some() {
            tracing::warn!(%error, "the archive failed; retrying");
        }
        sleep(pauses.next()).await;
    }
}

fn pauses() -> Backoff {
    Backoff::new(FIRST_PAUSE, LONGEST_PAUSE)
}
