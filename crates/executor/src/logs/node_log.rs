//! The log of one node for one follower, across all attempts and pods of the node.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use archive::{LogKey, RecordKey};
use bytes::Bytes;
use tokio::sync::OnceCell;

use super::chunk::{Chunk, LineStyle};
use super::pod_log::{LogOrigin, PodFollower, PodLogEnd, PodLogItem, PodLogRange};
use super::position::LogPosition;
use super::shared_stream::{PodLog, common_style};
use super::truncated::LogTruncated;
use crate::cache::{NodePod, TaskKey};

/// What all nodes of one follower share.
#[derive(Clone)]
pub(super) struct FollowerContext {
    pub origin: LogOrigin,
    pub key: Arc<TaskKey>,
    /// The task in the archive.
    pub record: RecordKey,
    /// The archived logs of the task, once they were needed.
    pub archived: Arc<OnceCell<Vec<LogKey>>>,
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
    /// Pods of the attempt that are gone, and whose logs are read next.
    gone: VecDeque<PodLog>,
    style: LineStyle,
    state: ReadState,
}

enum ReadState {
    /// Waiting for a pod with a log.
    Waiting,
    /// Reading the log of a pod.
    Pod(Box<PodFollower>),
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
            gone: VecDeque::new(),
            style,
            state: ReadState::Waiting,
            context,
        }
    }

    /// The log of a node of a task that is gone.
    pub(crate) fn of_archive(context: FollowerContext, rank: u32, logs: &[LogKey]) -> Self {
        let mut log = Self::new(context, rank);
        let of_node = logs.iter().filter(|log| log.rank == rank);
        log.gone = of_node.map(|key| log.archived_pod(key)).collect();
        log
    }

    /// Returns the next piece, or `None` at the end. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<Result<LogPiece, LogTruncated>> {
        loop {
            match &mut self.state {
                ReadState::Waiting => self.state = self.wait().await,
                ReadState::Pod(follower) => match follower.next(&self.context.origin).await {
                    (position, PodLogItem::Chunk(chunk)) => return Some(Ok(self.piece(position, &chunk))),
                    (_, PodLogItem::End(PodLogEnd::Cut(reason))) => self.state = ReadState::Cut(reason),
                    (_, PodLogItem::End(PodLogEnd::Complete | PodLogEnd::Gone)) => self.state = ReadState::Waiting,
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
            if let Some(pod) = self.gone.pop_front() {
                return self.start(pod, false);
            }
            let cache = &self.context.origin.cache;
            let changes = cache.subscribe(&self.context.key);
            let Some(snapshot) = cache.snapshot(&self.context.key) else {
                return ReadState::Done;
            };
            let of_this_node = || snapshot.nodes.iter().filter(|node| node.rank == self.rank);
            let is_new = |node: &&NodePod| {
                let other = node.pod.as_ref().is_some_and(|pod| !self.read.contains(&pod.uid));
                node.attempt > self.attempt || (node.attempt == self.attempt && other)
            };
            if let Some(node) = of_this_node().find(is_new) {
                let attempt = node.attempt;
                if let Some(pod) = &node.pod {
                    let FollowerContext {
                        key, record, num_nodes, ..
                    } = &self.context;
                    let pod = PodLog::of_node(key, record, *num_nodes, node, pod);
                    return self.start(pod, waited && !node.ended);
                }
                if node.ended {
                    if let Err(error) = self.find_archived(attempt).await {
                        return ReadState::Cut(error.to_string().into());
                    }
                    self.attempt = attempt;
                    continue;
                }
                if !self.context.follow {
                    return ReadState::Done;
                }
                waited = true;
            } else {
                // Another attempt may follow, or another pod of this attempt.
                let has_ended = of_this_node().next_back().is_none_or(|node| node.ended);
                if snapshot.state.is_final() || !self.context.follow || (has_ended && !snapshot.recovers) {
                    return ReadState::Done;
                }
            }
            let Some(mut changes) = changes else {
                return ReadState::Done;
            };
            if changes.changed().await.is_err() {
                return ReadState::Done;
            }
        }
    }

    /// Finds the archived logs of the pods of an attempt, which are gone.
    async fn find_archived(&mut self, attempt: u32) -> Result<(), archive::Error> {
        let Some(archived) = &self.context.origin.archived else {
            return Ok(());
        };
        let list = || archived.of_task(&self.context.record, (self.rank, attempt));
        let logs = self.context.archived.get_or_try_init(list).await?;
        let of_attempt = logs
            .iter()
            .filter(|log| log.rank == self.rank && log.attempt == attempt);
        self.gone = of_attempt
            .filter(|log| !self.read.contains(&log.pod))
            .map(|log| self.archived_pod(log))
            .collect();
        Ok(())
    }

    fn archived_pod(&self, log: &LogKey) -> PodLog {
        PodLog::archived(&self.context.key, self.context.num_nodes, log.clone())
    }

    fn start(&mut self, pod: PodLog, just_started: bool) -> ReadState {
        let attempt = pod.archived.attempt;
        if attempt > self.attempt {
            self.read.clear();
        }
        self.attempt = attempt;
        self.read.insert(pod.uid.clone());
        self.begins = true;
        self.style.prefix.clone_from(&pod.source.style.prefix);
        let context = &self.context;
        let range = PodLogRange {
            follow: context.follow,
            tail: context.tail,
            from: context.since,
            counts_missing: false,
        };
        ReadState::Pod(Box::new(PodFollower::new(&context.origin, pod, range, just_started)))
    }

    /// The part of a chunk after `position`.
    fn piece(&mut self, position: LogPosition, chunk: &Chunk) -> LogPiece {
        let text = if self.style.timestamps {
            chunk.write(position, &self.style)
        } else {
            chunk.common(position, &self.style)
        };
        LogPiece {
            text,
            is_open: chunk.is_open(),
            begins: std::mem::take(&mut self.begins),
        }
    }
}
