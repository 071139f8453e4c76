//! Writes the log of one pod to the archive, from its first line to its last.

use std::sync::Arc;
use std::time::Duration;

use archive::{LogKey, LogState, Put};
use futures::future::BoxFuture;
use task::record::PodLogRecord;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::context::ArchivingContext;
use super::frame_buffer::FrameBuffer;
use super::notice;
use super::progress::TrackedPod;
use crate::logs::{LogPosition, PodFollower, PodLog, PodLogEnd, PodLogItem, PodLogRange};

/// How often a log that waits for room in the archive is looked at.
const FULL_POLL: Duration = Duration::from_secs(1);

const GONE: &str = "the pod was deleted before its log was read to the end";

/// Archives the log of a pod until it ends. Returns `None` if the server stops before; what was read is then in the archive.
pub(super) async fn archive_pod(
    context: &ArchivingContext,
    pod: PodLog,
    tracked: &TrackedPod,
    stop: &CancellationToken,
) -> Option<PodLogRecord> {
    let key = pod.archived.clone();
    let opened = stop.run_until_cancelled(open(context, &pod, tracked)).await;
    let (log, early) = opened?;
    let Some(log) = log else {
        tracked.set_live(true);
        return Some(damaged(&key));
    };
    if log.is_ended() {
        tracked.set_live(true);
        let lost = log.lost().map(str::to_owned);
        return Some(record_of(&key, &log, lost));
    }
    // What was read from the beginning is of no use if it may not connect to what is in the archive.
    let early = early.filter(|_| log.after().is_none());
    let reading = early.unwrap_or_else(|| Reading::from(context, &pod, LogPosition::from_archive(log.after())));
    let (mut log, lost) = copy(context, log, reading, tracked, stop).await?;
    context.end_log(&mut log, lost.as_deref()).await;
    Some(record_of(&key, &log, lost))
}

/// The log of a pod, and what has been read of it and is not in the archive yet.
struct Reading {
    follower: PodFollower,
    buffer: FrameBuffer,
}

impl Reading {
    fn from(context: &ArchivingContext, pod: &PodLog, position: LogPosition) -> Self {
        let range = PodLogRange {
            follow: true,
            tail: None,
            from: position,
            counts_missing: true,
        };
        Self {
            follower: PodFollower::new(&context.origin, pod.clone(), range, true),
            buffer: FrameBuffer::new(position),
        }
    }
}

/// Asks the archive what it has of a log, `None` if that is damaged. Reads the beginning of the log meanwhile if the
/// archive is stuck: it may be away for longer than the pod is there.
async fn open(context: &ArchivingContext, pod: &PodLog, tracked: &TrackedPod) -> (Option<LogState>, Option<Reading>) {
    let mut opening = std::pin::pin!(context.log(&pod.archived, &tracked.task.user));
    tokio::select! {
        biased;
        log = &mut opening => return (log, None),
        () = context.health.until_stuck() => {}
    }
    let mut reading = Reading::from(context, pod, LogPosition::START);
    let mut buffered = Buffered { context, size: 0 };
    let (mut was_live, mut is_over) = (false, false);
    loop {
        let Reading { follower, buffer } = &mut reading;
        if follower.is_live() != was_live {
            was_live = !was_live;
            tracked.set_live(was_live);
        }
        buffered.set(buffer.size());
        let may_read = !is_over && !buffer.is_full() && (buffer.is_empty() || context.may_buffer());
        tokio::select! {
            log = &mut opening => {
                // Until the next reader has caught up.
                tracked.set_live(false);
                return (log, Some(reading));
            }
            (_, item) = follower.next(&context.origin), if may_read => match item {
                PodLogItem::Chunk(chunk) => buffer.push(chunk),
                // It is returned again.
                PodLogItem::End(_) => is_over = true,
            },
        }
    }
}

/// Ends a log of a pod that is gone, which an earlier server has begun to archive.
pub(super) async fn end_log(context: &ArchivingContext, key: LogKey, user: &Arc<str>) -> PodLogRecord {
    let Some(mut log) = context.log(&key, user).await else {
        return damaged(&key);
    };
    if log.is_ended() {
        let lost = log.lost().map(str::to_owned);
        return record_of(&key, &log, lost);
    }
    let after = LogPosition::from_archive(log.after());
    let lost = notice::cut(after, 0, GONE);
    put_notice(context, &mut log, &FrameBuffer::new(after), &lost).await;
    context.end_log(&mut log, Some(&lost)).await;
    record_of(&key, &log, Some(lost))
}

/// Writes in a log that its rest is missing.
async fn put_notice(context: &ArchivingContext, log: &mut LogState, buffer: &FrameBuffer, lost: &str) {
    count_gap();
    if let Some(notice) = buffer.lost_frame(lost) {
        context.put_notice(log, &notice).await;
    }
}

fn count_gap() {
    metrics::counter!("k8s_cli_archive_gaps_total").increment(1);
}

fn record_of(key: &LogKey, log: &LogState, lost: Option<String>) -> PodLogRecord {
    let (lines, bytes) = log.size();
    let lost = lost.or_else(|| notice::within(log));
    PodLogRecord {
        rank: key.rank,
        attempt: key.attempt,
        lines,
        bytes,
        lost,
    }
}

fn damaged(key: &LogKey) -> PodLogRecord {
    PodLogRecord {
        rank: key.rank,
        attempt: key.attempt,
        lines: 0,
        bytes: 0,
        lost: Some("what is in the archive of it is damaged".to_owned()),
    }
}

/// Copies the log. Reading goes on while a frame is written, so that a slow archive does not make this follower fall
/// behind the others. Returns why a part at the end of the log is missing, if it is; `None` if the server stops.
async fn copy(
    context: &ArchivingContext,
    log: LogState,
    reading: Reading,
    tracked: &TrackedPod,
    stop: &CancellationToken,
) -> Option<(LogState, Option<String>)> {
    let Reading {
        mut follower,
        mut buffer,
    } = reading;
    let mut writer = Writer::Idle(log);
    let mut was_live = false;
    let mut buffered = Buffered { context, size: 0 };
    let mut end = loop {
        if follower.is_live() != was_live {
            was_live = !was_live;
            tracked.set_live(was_live);
        }
        let is_hurried = tracked.task.hurry.is_cancelled();
        if is_hurried {
            buffer.hurry();
        }
        tracked.set_unwritten(buffer.since());
        let due = buffer.due().filter(|_| writer.is_idle());
        buffered.set(buffer.size());
        // Each log may have something in its buffer, so that all of them go on.
        let may_read = !buffer.is_full() && (buffer.is_empty() || context.may_buffer());
        tokio::select! {
            biased;
            () = stop.cancelled() => {
                // The next server need not read it again.
                write_rest(context, tracked, writer, &mut buffer).await;
                return None;
            }
            written = writer.written() => match written {
                Ok(put) => buffer.advance(put.after, put.is_taken),
                Err(why) => break PodLogEnd::Cut(why.into()),
            },
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                writer = writer.write(context, tracked, &buffer);
            }
            () = tracked.task.hurry.cancelled(), if !is_hurried => {}
            // A deleted log takes space on the disk, perhaps the one of the archive, as long as it is open.
            () = sleep(FULL_POLL), if !may_read => {
                if context.is_full() {
                    follower.pause();
                }
            }
            (_, item) = follower.next(&context.origin), if may_read => match item {
                PodLogItem::Chunk(chunk) => buffer.push(chunk),
                PodLogItem::End(end) => break end,
            },
        }
    };
    tracked.set_live(true);
    let (mut log, given_up) = write_rest(context, tracked, writer, &mut buffer).await;
    tracked.set_unwritten(None);
    let unwritten = buffer.unwritten();
    if let Some(why) = given_up {
        buffer.clear();
        end = PodLogEnd::Cut(why.into());
    }
    let reason = match &end {
        PodLogEnd::Complete => return Some((log, None)),
        PodLogEnd::Gone => GONE,
        PodLogEnd::Cut(reason) => reason,
    };
    let lost = notice::cut(LogPosition::from_archive(log.after()), unwritten, reason);
    put_notice(context, &mut log, &buffer, &lost).await;
    Some((log, Some(lost)))
}

/// Writes everything in the buffer. Returns why the rest is given up, if it is.
async fn write_rest<'a>(
    context: &'a ArchivingContext,
    tracked: &'a TrackedPod,
    mut writer: Writer<'a>,
    buffer: &mut FrameBuffer,
) -> (LogState, Option<&'static str>) {
    let mut given_up = None;
    loop {
        match writer {
            Writer::Idle(log) if buffer.is_empty() || given_up.is_some() => return (log, given_up),
            Writer::Idle(_) => writer = writer.write(context, tracked, buffer),
            Writer::Writing(_) => match writer.written().await {
                Ok(put) => buffer.advance(put.after, put.is_taken),
                Err(why) => given_up = Some(why),
            },
        }
    }
}

/// The share of one buffer in the size of all, returned on drop.
struct Buffered<'a> {
    context: &'a ArchivingContext,
    size: usize,
}

impl Buffered<'_> {
    fn set(&mut self, size: usize) {
        self.context.note_buffered(self.size, size);
        self.size = size;
    }
}

impl Drop for Buffered<'_> {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// Writes one frame at a time.
enum Writer<'a> {
    Idle(LogState),
    Writing(BoxFuture<'a, (LogState, Result<Written, &'static str>)>),
}

/// A frame is in the archive.
struct Written {
    /// The position after it.
    after: LogPosition,
    /// Whether another server has written it.
    is_taken: bool,
}

impl<'a> Writer<'a> {
    fn is_idle(&self) -> bool {
        matches!(self, Self::Idle(_))
    }

    /// Begins to write the next frame.
    fn write(self, context: &'a ArchivingContext, tracked: &'a TrackedPod, buffer: &FrameBuffer) -> Self {
        match (self, buffer.frame()) {
            (Self::Idle(mut log), Some(frame)) => Self::Writing(Box::pin(async move {
                let put = context.put_frame(&mut log, &frame, tracked).await;
                let written = put.map(|put| {
                    let (after, is_taken) = match put {
                        Put::Stored => {
                            if frame.header.gap {
                                count_gap();
                            }
                            (frame.header.after, false)
                        }
                        Put::Taken(after) => (after, true),
                    };
                    let after = LogPosition::from_archive(Some(after));
                    Written { after, is_taken }
                });
                (log, written)
            })),
            (writer, _) => writer,
        }
    }

    /// Waits until the frame is written; forever if none is being written. Cancel-safe.
    ///
    /// # Errors
    /// Why it is given up.
    async fn written(&mut self) -> Result<Written, &'static str> {
        match self {
            Self::Idle(_) => std::future::pending().await,
            Self::Writing(writing) => {
                let (log, written) = writing.await;
                *self = Self::Idle(log);
                written
            }
        }
    }
}
