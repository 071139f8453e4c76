//! The log of one node for one follower, across all attempts and pods of the node.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep};

use super::chunk::{Chunk, LineStyle};
use super::position::LogPosition;
use super::reader::{LogReader, LogSource, ReadError, ReadRange};
use super::ring::RingItem;
use super::shared_stream::{PodLog, SharedStreams, Subscription, common_style};
use super::truncated::LogTruncated;
use crate::cache::{Cache, NodePod, TaskKey};
use crate::kubernetes::{ApiClient, ObjectRef};

/// The pause before a failed read is retried.
const PAUSE: Duration = Duration::from_millis(500);

/// How long a follower that reads on its own collects data before it passes it on: it is catching up, so throughput
/// matters more than latency.
const GATHER: Duration = Duration::from_millis(1);

/// How long reads may fail before giving up on a log that is complete, or that is not followed.
const PATIENCE: Duration = Duration::from_secs(15);

/// What all nodes of one follower share.
#[derive(Clone)]
pub(super) struct FollowerContext {
    pub client: ApiClient,
    pub cache: Arc<Cache>,
    pub shared_streams: Arc<SharedStreams>,
    pub key: Arc<TaskKey>,
    pub num_nodes: u32,
    pub follow: bool,
    pub tail: Option<u32>,
    pub since: LogPosition,
    pub timestamps: bool,
}

/// A piece of a node's log.
#[derive(Debug)]
pub(super) struct LogPiece {
    /// The text, in the style of the follower.
    pub text: Bytes,
    /// Whether it ends in the middle of a line.
    pub is_open: bool,
    /// Whether it is the first piece of a pod's log, so that it does not continue the previous line.
    pub begins: bool,
}

/// The log of one node.
pub(super) struct NodeLog {
    context: FollowerContext,
    rank: u32,
    /// The attempt whose log is being read; 0 before the first.
    attempt: u32,
    /// Whether nothing of the current pod's log has been passed on yet.
    begins: bool,
    /// The uids of the pods whose logs have been read, so that none is read twice. An attempt has several pods if its
    /// task gave way.
    read: HashSet<String>,
    /// Since when reads have failed.
    failing_since: Option<Instant>,
    style: LineStyle,
    position: LogPosition,
    /// Applies to the first read only, so that later lines are not cut.
    tail: Option<u32>,
    state: ReadState,
}

enum ReadState {
    /// Waiting for a pod with a log.
    Waiting,
    /// About to read what exists, for this follower alone.
    Reading {
        pod: PodLog,
    },
    Open {
        pod: PodLog,
        ended: bool,
        reader: Box<LogReader>,
    },
    /// Following the stream that all followers of the pod share.
    Following {
        pod: PodLog,
        subscription: Subscription,
    },
    /// The rest cannot be read.
    Cut(Arc<str>),
    Done,
}

impl NodeLog {
    pub(crate) fn new(context: FollowerContext, rank: u32) -> Self {
        let style = LineStyle {
            timestamps: context.timestamps,
            ..common_style(rank, context.num_nodes, 1)
        };
        Self {
            rank,
            attempt: 0,
            begins: true,
            read: HashSet::new(),
            failing_since: None,
            style,
            position: context.since,
            tail: context.tail,
            state: ReadState::Waiting,
            context,
        }
    }

    /// Returns the next piece, or `None` at the end. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<Result<LogPiece, LogTruncated>> {
        loop {
            match &mut self.state {
                ReadState::Waiting => self.state = self.wait().await,
                ReadState::Reading { pod } => {
                    let pod = pod.clone();
                    // In a box: a silent follower, of which there may be thousands, should not keep the memory of a call
                    // that is over.
                    self.state = Box::pin(self.open(pod)).await;
                }
                ReadState::Open { reader, .. } => match reader.next(GATHER).await {
                    Ok(Some(chunk)) => {
                        self.tail = None;
                        return Some(Ok(self.piece(&chunk)));
                    }
                    Ok(None) => {
                        if let Some(piece) = self.finish_read() {
                            return Some(Ok(piece));
                        }
                    }
                    Err(error) => Box::pin(self.handle_read_error(&error)).await,
                },
                ReadState::Following { pod, subscription } => match subscription.cursor.next().await {
                    RingItem::Chunk(chunk) => return Some(Ok(self.piece(&chunk))),
                    RingItem::Closed => self.state = self.next_pod(),
                    RingItem::Cut(reason) => self.state = ReadState::Cut(reason),
                    RingItem::Behind => {
                        let pod = pod.clone();
                        self.state = ReadState::Reading { pod };
                    }
                },
                ReadState::Cut(reason) => {
                    let (node, reason) = (self.rank, Arc::clone(reason));
                    self.state = ReadState::Done;
                    return Some(Err(LogTruncated { node, reason }));
                }
                ReadState::Done => return None,
            }
        }
    }

    /// Waits until the node has a pod whose log was not read yet, or will never have one.
    async fn wait(&mut self) -> ReadState {
        let mut waited = false;
        loop {
            let changes = self.context.cache.subscribe(&self.context.key);
            let Some(snapshot) = self.context.cache.snapshot(&self.context.key) else {
                return ReadState::Done;
            };
            let of_this_node = || snapshot.nodes.iter().filter(|node| node.rank == self.rank);
            let is_new = |node: &&NodePod| {
                let other = node.pod.as_ref().is_some_and(|pod| !self.read.contains(&pod.uid));
                node.attempt > self.attempt || (node.attempt == self.attempt && other)
            };
            let Some(node) = of_this_node().find(is_new) else {
                // Another attempt may follow, or another pod of this attempt.
                let has_ended = of_this_node().next_back().is_none_or(|node| node.ended);
                if snapshot.state.is_final() || !self.context.follow || (has_ended && !snapshot.recovers) {
                    return ReadState::Done;
                }
                let Some(mut changes) = changes else {
                    return ReadState::Done;
                };
                if changes.changed().await.is_err() {
                    return ReadState::Done;
                }
                continue;
            };
            if let Some(pod) = &node.pod {
                if node.attempt > self.attempt {
                    self.read.clear();
                }
                self.attempt = node.attempt;
                self.read.insert(pod.uid.clone());
                self.begins = true;
                self.style.prefix = common_style(self.rank, self.context.num_nodes, self.attempt).prefix;
                return self.start(pod, waited && !node.ended);
            }
            if node.ended {
                self.attempt = node.attempt;
                continue;
            }
            if !self.context.follow {
                return ReadState::Done;
            }
            waited = true;
            let Some(mut changes) = changes else {
                return ReadState::Done;
            };
            if changes.changed().await.is_err() {
                return ReadState::Done;
            }
        }
    }

    /// Finishes the log of one pod, and waits for the next pod.
    fn next_pod(&mut self) -> ReadState {
        self.position = self.context.since;
        self.tail = self.context.tail;
        ReadState::Waiting
    }

    /// Joins the shared stream if this pod has just started. Otherwise reads what exists first.
    fn start(&self, pod: &ObjectRef, just_started: bool) -> ReadState {
        let pod = PodLog {
            key: Arc::clone(&self.context.key),
            uid: pod.uid.clone(),
            source: LogSource {
                pod: pod.name.clone(),
                style: common_style(self.rank, self.context.num_nodes, self.attempt),
                shows_partial_lines: self.context.num_nodes == 1,
            },
        };
        let can_follow = self.context.follow && self.tail.is_none();
        if can_follow && (just_started || self.context.shared_streams.covers(&pod.uid, self.position)) {
            return self.follow(pod);
        }
        ReadState::Reading { pod }
    }

    fn follow(&self, pod: PodLog) -> ReadState {
        let context = &self.context;
        match context
            .shared_streams
            .join(&context.client, &context.cache, &pod, self.position)
        {
            Some(subscription) => ReadState::Following { pod, subscription },
            None => ReadState::Reading { pod },
        }
    }

    async fn open(&mut self, pod: PodLog) -> ReadState {
        let ended = self.has_ended(&pod);
        let range = ReadRange {
            from: self.position,
            tail: self.tail,
            follow: false,
        };
        let permit = self.context.shared_streams.acquire_open_permit().await;
        let opened = LogReader::open(&self.context.client, &pod.source, range).await;
        drop(permit);
        match opened {
            Ok(reader) => ReadState::Open {
                pod,
                ended,
                reader: Box::new(reader),
            },
            Err(error) if error.is_gone() => self.next_pod(),
            Err(error) => self.retry(pod, &error).await,
        }
    }

    /// Handles the end of a read.
    fn finish_read(&mut self) -> Option<LogPiece> {
        let ReadState::Open {
            pod, ended, mut reader, ..
        } = std::mem::replace(&mut self.state, ReadState::Done)
        else {
            return None;
        };
        // A response that began before the pod ended may lack the end of the log.
        if ended || !self.context.follow {
            let last = reader.finish().ok().flatten().map(|last| self.piece(&last));
            self.state = self.next_pod();
            return last;
        }
        self.position = self.position.max(reader.position());
        self.tail = None;
        self.state = self.follow(pod);
        None
    }

    async fn handle_read_error(&mut self, error: &ReadError) {
        if let ReadState::Open { pod, .. } = std::mem::replace(&mut self.state, ReadState::Done) {
            self.state = self.retry(pod, error).await;
        }
    }

    /// Pauses before the next try. A log that is still being written is retried forever, others until [`PATIENCE`] is
    /// over.
    async fn retry(&mut self, pod: PodLog, error: &ReadError) -> ReadState {
        tracing::debug!(pod = pod.source.pod, %error, "failed to read a log");
        let since = *self.failing_since.get_or_insert_with(Instant::now);
        let is_written_to = self.context.follow && !self.has_ended(&pod);
        if error.is_permanent() || (!is_written_to && since.elapsed() >= PATIENCE) {
            return ReadState::Cut(error.to_string().into());
        }
        sleep(PAUSE).await;
        ReadState::Reading { pod }
    }

    fn has_ended(&self, pod: &PodLog) -> bool {
        self.context.cache.pod_ended(&pod.key, &pod.uid).unwrap_or(true)
    }

    fn piece(&mut self, chunk: &Chunk) -> LogPiece {
        self.failing_since = None;
        let text = if self.style.timestamps {
            chunk.write(self.position, &self.style)
        } else {
            chunk.common(self.position, &self.style)
        };
        self.position = self.position.max(chunk.after());
        LogPiece {
            text,
            is_open: chunk.is_open(),
            begins: std::mem::take(&mut self.begins),
        }
    }
}
