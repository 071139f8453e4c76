//! The log of one pod for one follower: what exists, then the stream that all followers share.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::archived::ArchivedLogs;
use super::chunk::{Chunk, StreamPlace};
use super::position::LogPosition;
use super::reader::{LogReader, ReadError, ReadRange};
use super::ring::{LogEnd, RingItem};
use super::shared_stream::{PodLog, SharedStreams, Subscription};
use crate::cache::Cache;
use crate::kubernetes::ApiClient;

/// The pause before a failed read is retried.
const PAUSE: Duration = Duration::from_millis(500);

/// How long a follower that reads on its own collects data before it passes it on: it is catching up, so throughput
/// matters more than latency.
const GATHER: Duration = Duration::from_millis(1);

/// How long reads may fail before giving up on a log that is complete, or that is not followed.
const PATIENCE: Duration = Duration::from_secs(15);

/// Where logs come from.
#[derive(Clone)]
pub(crate) struct LogOrigin {
    pub client: ApiClient,
    pub cache: Arc<Cache>,
    pub shared_streams: Arc<SharedStreams>,
    /// The logs of pods that are gone.
    pub archived: Option<ArchivedLogs>,
}

/// What a follower reads of a pod.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PodLogRange {
    pub follow: bool,
    pub tail: Option<u32>,
    pub from: LogPosition,
    /// Whether to find out how much is missing after a rotation: the shared stream then goes on while this follower catches
    /// up.
    pub counts_missing: bool,
}

/// The log of one pod for one follower.
pub(crate) struct PodFollower {
    pod: PodLog,
    follow: bool,
    /// The position after everything that was returned.
    position: LogPosition,
    /// Applies to the first read only, so that later lines are not cut.
    tail: Option<u32>,
    /// Since when reads have failed.
    failing_since: Option<Instant>,
    /// Whether to pause before the next read: the shared stream is ahead of everything that was written.
    pauses: bool,
    counts_missing: bool,
    /// `position` as the shared stream counts, if that is known.
    place: Option<StreamPlace>,
    /// The share in the shared stream while this follower reads on its own.
    kept: Option<Subscription>,
    state: ReadState,
}

enum ReadState {
    /// About to read what exists, for this follower alone.
    Reading,
    Open {
        ended: bool,
        reader: Box<LogReader>,
    },
    /// Following the stream that all followers of the pod share.
    Following(Subscription),
    Ended(PodLogEnd),
}

/// How the log of a pod ended for a follower.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PodLogEnd {
    /// Everything was returned.
    Complete,
    /// The pod is gone, and perhaps a part of its log with it.
    Gone,
    /// The rest cannot be read.
    Cut(Arc<str>),
}

/// What comes next in the log of a pod.
pub(crate) enum PodLogItem {
    Chunk(Arc<Chunk>),
    End(PodLogEnd),
}

impl PodFollower {
    /// Joins the shared stream if the pod has `just_started`, or if it covers the range. Otherwise reads what exists
    /// first.
    pub(crate) fn new(origin: &LogOrigin, pod: PodLog, range: PodLogRange, just_started: bool) -> Self {
        let mut follower = Self {
            pod,
            follow: range.follow,
            position: range.from,
            tail: range.tail,
            failing_since: None,
            pauses: false,
            counts_missing: range.counts_missing,
            place: None,
            kept: None,
            state: ReadState::Reading,
        };
        let can_follow = range.follow && range.tail.is_none() && !follower.pod.is_gone;
        let covers = || origin.shared_streams.covers(&follower.pod.uid, range.from);
        if can_follow && (just_started || covers()) {
            follower.join(origin);
        }
        follower
    }

    /// Closes the log. The next read opens it again.
    pub(crate) fn pause(&mut self) {
        if !matches!(self.state, ReadState::Ended(_)) {
            self.state = ReadState::Reading;
            (self.kept, self.place) = (None, None);
        }
    }

    /// Whether it receives what the pod writes as it is written.
    pub(crate) fn is_live(&self) -> bool {
        matches!(self.state, ReadState::Following(_) | ReadState::Ended(_))
    }

    /// Returns the next chunk, or how the log ended, with the position before it: parts of the chunk may lie before that.
    /// Cancel-safe.
    pub(crate) async fn next(&mut self, origin: &LogOrigin) -> (LogPosition, PodLogItem) {
        loop {
            match &mut self.state {
                // In boxes: a silent follower, of which there may be thousands, should not keep the memory of a call that
                // is over.
                ReadState::Reading => self.state = Box::pin(self.open(origin)).await,
                ReadState::Open { reader, .. } => match reader.next(GATHER).await {
                    Ok(Some(mut chunk)) => {
                        self.tail = None;
                        if let Some(gap) = &mut chunk.gap {
                            gap.before = self.place.take();
                        }
                        return self.pass_on(Arc::new(chunk));
                    }
                    Ok(None) => {
                        if let Some(last) = self.finish_read(origin) {
                            return self.pass_on(Arc::new(last));
                        }
                    }
                    Err(error) => self.state = Box::pin(self.retry(origin, &error)).await,
                },
                ReadState::Following(subscription) => match subscription.cursor.next().await {
                    RingItem::Chunk(chunk) => {
                        if chunk.gap.is_some() {
                            self.place = None;
                        }
                        return self.pass_on(chunk);
                    }
                    RingItem::Ended(LogEnd::Complete) => self.state = ReadState::Ended(PodLogEnd::Complete),
                    // The rest may be in the archive.
                    RingItem::Ended(LogEnd::Gone) if origin.archived.is_some() => self.state = ReadState::Reading,
                    RingItem::Ended(LogEnd::Gone) => self.state = ReadState::Ended(PodLogEnd::Gone),
                    RingItem::Ended(LogEnd::Cut(reason)) => self.state = ReadState::Ended(PodLogEnd::Cut(reason)),
                    RingItem::Behind => self.fall_behind(),
                },
                ReadState::Ended(end) => return (self.position, PodLogItem::End(end.clone())),
            }
        }
    }

    fn pass_on(&mut self, chunk: Arc<Chunk>) -> (LogPosition, PodLogItem) {
        self.failing_since = None;
        let before = self.position;
        self.position = self.position.max(chunk.after());
        if let Some(place) = &mut self.place {
            place.offset += chunk.bytes_after(before);
        }
        (before, PodLogItem::Chunk(chunk))
    }

    fn join(&mut self, origin: &LogOrigin) {
        let (client, cache) = (&origin.client, &origin.cache);
        let joined = origin.shared_streams.join(client, cache, &self.pod, self.position);
        self.state = match joined {
            Some(subscription) => {
                self.place = subscription.cursor.joined_at.clone().filter(|_| self.counts_missing);
                self.kept = None;
                ReadState::Following(subscription)
            }
            None => ReadState::Reading,
        };
    }

    /// Reads on its own until it has caught up with the shared stream.
    fn fall_behind(&mut self) {
        let state = std::mem::replace(&mut self.state, ReadState::Reading);
        if let ReadState::Following(subscription) = state
            && self.counts_missing
        {
            self.kept = Some(subscription);
        }
    }

    async fn open(&mut self, origin: &LogOrigin) -> ReadState {
        if std::mem::take(&mut self.pauses) {
            sleep(PAUSE).await;
        }
        let ended = self.has_ended(origin);
        let range = ReadRange {
            from: self.position,
            tail: self.tail,
            follow: false,
        };
        let permit = origin.shared_streams.acquire_open_permit().await;
        let opened = if self.pod.is_gone {
            Err(ReadError::Gone)
        } else {
            LogReader::open(&origin.client, &self.pod.source, range).await
        };
        drop(permit);
        match opened {
            Ok(reader) => ReadState::Open {
                ended,
                reader: Box::new(reader),
            },
            Err(error) if error.is_gone() => self.open_archived(origin, range).await,
            Err(error) => self.retry(origin, &error).await,
        }
    }

    /// Opens the log in the archive; the pod is gone.
    async fn open_archived(&mut self, origin: &LogOrigin, range: ReadRange) -> ReadState {
        self.pod.is_gone = true;
        let Some(archived) = &origin.archived else {
            return ReadState::Ended(PodLogEnd::Gone);
        };
        match archived.open(&self.pod, range, self.follow).await {
            Ok(Some(reader)) => ReadState::Open {
                ended: true,
                reader: Box::new(reader),
            },
            Ok(None) => ReadState::Ended(PodLogEnd::Gone),
            Err(error) => self.retry(origin, &error).await,
        }
    }

    /// Handles the end of a read. Returns what is left of a line at the end of the log.
    fn finish_read(&mut self, origin: &LogOrigin) -> Option<Chunk> {
        let end = ReadState::Ended(PodLogEnd::Complete);
        let ReadState::Open { ended, mut reader } = std::mem::replace(&mut self.state, end) else {
            return None;
        };
        // A response that began before the pod ended may lack the end of the log.
        if ended || !self.follow {
            return reader.finish().ok().flatten();
        }
        let before = self.position;
        self.position = self.position.max(reader.position());
        self.tail = None;
        self.join(origin);
        self.pauses = self.position == before;
        None
    }

    /// Pauses before the next try. A log that is still being written is retried forever, others until [`PATIENCE`] is
    /// over.
    async fn retry(&mut self, origin: &LogOrigin, error: &ReadError) -> ReadState {
        tracing::debug!(pod = self.pod.source.pod, %error, "failed to read a log");
        let since = *self.failing_since.get_or_insert_with(Instant::now);
        let is_written_to = self.follow && !self.has_ended(origin);
        if error.is_permanent() || (!is_written_to && since.elapsed() >= PATIENCE) {
            return ReadState::Ended(PodLogEnd::Cut(error.to_string().into()));
        }
        sleep(PAUSE).await;
        ReadState::Reading
    }

    fn has_ended(&self, origin: &LogOrigin) -> bool {
        origin.cache.pod_ended(&self.pod.key, &self.pod.uid).unwrap_or(true)
    }
}

#[cfg(test)]
mod tests;
