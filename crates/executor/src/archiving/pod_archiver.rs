//! Writes the log of one pod to the archive, from its first line to its last.

use std::time::Duration;

use archive::{LogKey, LogState, Put};
use futures::future::BoxFuture;
use task::record::PodLogRecord;
use tokio::time::{Instant, sleep, sleep_until};

use super::context::ArchivingContext;
use super::frame_buffer::FrameBuffer;
use crate::logs::{LogPosition, PodFollower, PodLog, PodLogEnd, PodLogItem, PodLogRange};

/// How often a log that waits for room in the archive is looked at.
const FULL_POLL: Duration = Duration::from_secs(1);

/// Why the rest of a log is missing if there was no room for it.
const FULL: &str = "the archive is full";

/// Archives the log of a pod until it ends. Tells `on_live` whether everything that the pod writes now will be read, even if
/// the pod is deleted.
pub(super) async fn archive_pod(
    context: &ArchivingContext,
    key: LogKey,
    pod: PodLog,
    on_live: impl Fn(bool) + Send,
) -> PodLogRecord {
    let mut log = context.log(&key).await;
    let mut lost = None;
    if !log.is_ended() {
        let range = PodLogRange {
            follow: true,
            tail: None,
            from: LogPosition::from_archive(log.after()),
        };
        let follower = PodFollower::new(&context.origin, pod, range, true);
        (log, lost) = copy(context, log, follower, on_live).await;
        context.end_log(&mut log, lost.as_deref()).await;
    }
    let (lines, bytes) = log.size();
    PodLogRecord {
        rank: key.rank,
        attempt: key.attempt,
        lines,
        bytes,
        lost,
    }
}

/// Copies the log. Reading goes on while a frame is written, so that a slow archive does not make this follower fall
/// behind the others. Returns why a part at the end of the log is missing, if it is.
async fn copy(
    context: &ArchivingContext,
    log: LogState,
    mut follower: PodFollower,
    on_live: impl Fn(bool) + Send,
) -> (LogState, Option<String>) {
    let mut buffer = FrameBuffer::new(LogPosition::from_archive(log.after()));
    let mut writer = Writer::Idle(log);
    let mut was_live = false;
    let mut end = loop {
        if follower.is_live() != was_live {
            was_live = !was_live;
            on_live(was_live);
        }
        let due = buffer.due().filter(|_| writer.is_idle());
        tokio::select! {
            biased;
            written = writer.written() => match written {
                Some(put) => buffer.advance(put.after, put.is_taken),
                None => break PodLogEnd::Cut(FULL.into()),
            },
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                writer = writer.write(context, &buffer);
            }
            // A deleted log takes space on the disk, perhaps the one of the archive, as long as it is open.
            () = sleep(FULL_POLL), if buffer.is_full() => {
                if context.is_full() {
                    follower.pause();
                }
            }
            (_, item) = follower.next(&context.origin), if !buffer.is_full() => match item {
                PodLogItem::Chunk(chunk) => {
                    let gaps = u64::from(chunk.follows_gap);
                    metrics::counter!("k8s_cli_archive_gaps_total").increment(gaps);
                    buffer.push(chunk);
                }
                PodLogItem::End(end) => break end,
            },
        }
    };
    on_live(true);
    let mut log = loop {
        match writer {
            Writer::Idle(log) if buffer.is_empty() => break log,
            Writer::Idle(_) => writer = writer.write(context, &buffer),
            Writer::Writing(_) => match writer.written().await {
                Some(put) => buffer.advance(put.after, put.is_taken),
                None => {
                    buffer.clear();
                    end = PodLogEnd::Cut(FULL.into());
                }
            },
        }
    };
    let lost = match end {
        PodLogEnd::Complete => return (log, None),
        PodLogEnd::Gone => "the pod was deleted before its log was read to the end".to_owned(),
        PodLogEnd::Cut(reason) => reason.to_string(),
    };
    metrics::counter!("k8s_cli_archive_gaps_total").increment(1);
    if let Some(frame) = buffer.lost_frame(&lost) {
        context.put_notice(&mut log, &frame).await;
    }
    (log, Some(lost))
}

/// Writes one frame at a time.
enum Writer<'a> {
    Idle(LogState),
    Writing(BoxFuture<'a, (LogState, Option<Written>)>),
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
    fn write(self, context: &'a ArchivingContext, buffer: &FrameBuffer) -> Self {
        match (self, buffer.frame()) {
            (Self::Idle(mut log), Some(frame)) => Self::Writing(Box::pin(async move {
                let put = context.put_frame(&mut log, &frame).await;
                let written = put.map(|put| {
                    let (after, is_taken) = match put {
                        Put::Stored => (frame.header.after, false),
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

    /// Waits until the frame is written; forever if none is being written. Returns `None` if there is no room for it.
    /// Cancel-safe.
    async fn written(&mut self) -> Option<Written> {
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
