//! The log of one node for one follower, across all attempts and pods of the node.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep};

use super::LogCut;
use super::chunk::{Chunk, Style};
use super::hub::{Followed, Hubs, Share, common_style};
use super::position::Position;
use super::ring::Next;
use super::upstream::{Interruption, Part, Reader, Source};
use crate::cache::{Cache, NodePod, TaskKey};
use crate::kubernetes::Calls;

/// The pause before a failed read is retried.
const PAUSE: Duration = Duration::from_millis(500);

/// How long a follower that reads on its own collects data before it passes it on: it is catching up, so throughput
/// matters more than latency.
const GATHER: Duration = Duration::from_millis(1);

/// How long reads may fail before giving up on a log that is complete, or that is not followed.
const PATIENCE: Duration = Duration::from_secs(15);

/// What all nodes of one follower share.
#[derive(Clone)]
pub(super) struct Context {
    pub calls: Calls,
    pub cache: Arc<Cache>,
    pub hubs: Arc<Hubs>,
    pub key: Arc<TaskKey>,
    pub num_nodes: u32,
    pub follow: bool,
    pub tail: Option<u32>,
    pub since: Position,
    pub timestamps: bool,
}

/// A piece of a node's log.
#[derive(Debug)]
pub(super) struct Piece {
    /// The text, in the style of the follower.
    pub text: Bytes,
    /// Whether it ends in the middle of a line.
    pub is_open: bool,
    /// Whether it is the first piece of a pod's log, so that it does not continue the previous line.
    pub begins: bool,
}

/// The log of one node.
pub(super) struct NodeLog {
    context: Context,
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
    style: Style,
    position: Position,
    /// Applies to the first read only, so that later lines are not cut.
    tail: Option<u32>,
    stage: Stage,
}

enum Stage {
    /// Waiting for a pod with a log.
    Waiting,
    /// About to read what exists, for this follower alone.
    Reading {
        pod: Followed,
    },
    Open {
        pod: Followed,
        ended: bool,
        reader: Box<Reader>,
    },
    /// Following the stream that all followers of the pod share.
    Following {
        pod: Followed,
        share: Share,
    },
    /// The rest cannot be read.
    Cut(Arc<str>),
    Done,
}

impl NodeLog {
    pub fn new(context: Context, rank: u32) -> Self {
        let style = Style {
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
            stage: Stage::Waiting,
            context,
        }
    }

    /// Returns the next piece, or `None` at the end. Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<Piece, LogCut>> {
        loop {
            match &mut self.stage {
                Stage::Waiting => self.stage = self.wait().await,
                Stage::Reading { pod } => {
                    let pod = pod.clone();
                    self.stage = self.open(pod).await;
                }
                Stage::Open { reader, .. } => match reader.next(GATHER).await {
                    Ok(Some(chunk)) => {
                        self.tail = None;
                        return Some(Ok(self.piece(&chunk)));
                    }
                    Ok(None) => {
                        if let Some(piece) = self.read_all() {
                            return Some(Ok(piece));
                        }
                    }
                    Err(interruption) => self.interrupted(&interruption).await,
                },
                Stage::Following { pod, share } => match share.cursor.next().await {
                    Next::Chunk(chunk) => return Some(Ok(self.piece(&chunk))),
                    Next::Closed => self.stage = self.over(),
                    Next::Cut(reason) => self.stage = Stage::Cut(reason),
                    Next::Behind => {
                        let pod = pod.clone();
                        self.stage = Stage::Reading { pod };
                    }
                },
                Stage::Cut(reason) => {
                    let (node, reason) = (self.rank, Arc::clone(reason));
                    self.stage = Stage::Done;
                    return Some(Err(LogCut { node, reason }));
                }
                Stage::Done => return None,
            }
        }
    }

    /// Waits until the node has a pod whose log was not read yet, or will never have one.
    async fn wait(&mut self) -> Stage {
        let mut waited = false;
        loop {
            let changes = self.context.cache.follow(&self.context.key);
            let Some(view) = self.context.cache.view(&self.context.key) else {
                return Stage::Done;
            };
            let of_this_node = || view.nodes.iter().filter(|node| node.rank == self.rank);
            let is_new = |node: &&NodePod| {
                let other = node.pod.as_ref().is_some_and(|(_, uid)| !self.read.contains(uid));
                node.attempt > self.attempt || (node.attempt == self.attempt && other)
            };
            let Some(node) = of_this_node().find(is_new) else {
                // Another attempt may follow, or another pod of this attempt.
                let has_ended = of_this_node().next_back().is_none_or(|node| node.ended);
                if view.state.is_final() || !self.context.follow || (has_ended && !view.recovers) {
                    return Stage::Done;
                }
                let Some(mut changes) = changes else { return Stage::Done };
                if changes.changed().await.is_err() {
                    return Stage::Done;
                }
                continue;
            };
            if let Some((name, uid)) = &node.pod {
                if node.attempt > self.attempt {
                    self.read.clear();
                }
                self.attempt = node.attempt;
                self.read.insert(uid.clone());
                self.begins = true;
                self.style.prefix = common_style(self.rank, self.context.num_nodes, self.attempt).prefix;
                return self.start(name, uid, waited && !node.ended);
            }
            if node.ended {
                self.attempt = node.attempt;
                continue;
            }
            if !self.context.follow {
                return Stage::Done;
            }
            waited = true;
            let Some(mut changes) = changes else { return Stage::Done };
            if changes.changed().await.is_err() {
                return Stage::Done;
            }
        }
    }

    /// Finishes the log of one pod, and waits for the next pod.
    fn over(&mut self) -> Stage {
        self.position = self.context.since;
        self.tail = self.context.tail;
        Stage::Waiting
    }

    /// Joins the shared stream if this pod has just started. Otherwise reads what exists first.
    fn start(&self, name: &str, uid: &str, just_begun: bool) -> Stage {
        let pod = Followed {
            key: Arc::clone(&self.context.key),
            uid: uid.to_owned(),
            source: Source {
                pod: name.to_owned(),
                style: common_style(self.rank, self.context.num_nodes, self.attempt),
                shows_parts: self.context.num_nodes == 1,
            },
        };
        let can_follow = self.context.follow && self.tail.is_none();
        if can_follow && (just_begun || self.context.hubs.covers(uid, self.position)) {
            return self.follow(pod);
        }
        Stage::Reading { pod }
    }

    fn follow(&self, pod: Followed) -> Stage {
        let context = &self.context;
        match context.hubs.join(&context.calls, &context.cache, &pod, self.position) {
            Some(share) => Stage::Following { pod, share },
            None => Stage::Reading { pod },
        }
    }

    async fn open(&mut self, pod: Followed) -> Stage {
        let ended = self.has_ended(&pod);
        let part = Part {
            from: self.position,
            tail: self.tail,
            follow: false,
        };
        let turn = self.context.hubs.turn().await;
        let opened = Reader::open(&self.context.calls, &pod.source, part).await;
        drop(turn);
        match opened {
            Ok(reader) => Stage::Open {
                pod,
                ended,
                reader: Box::new(reader),
            },
            Err(interruption) if interruption.is_gone() => self.over(),
            Err(interruption) => self.retry(pod, &interruption).await,
        }
    }

    /// Handles the end of a read.
    fn read_all(&mut self) -> Option<Piece> {
        let Stage::Open {
            pod, ended, mut reader, ..
        } = std::mem::replace(&mut self.stage, Stage::Done)
        else {
            return None;
        };
        // A response that began before the pod ended may lack the end of the log.
        if ended || !self.context.follow {
            let last = reader.finish().ok().flatten().map(|last| self.piece(&last));
            self.stage = self.over();
            return last;
        }
        self.position = self.position.max(reader.position());
        self.tail = None;
        self.stage = self.follow(pod);
        None
    }

    async fn interrupted(&mut self, interruption: &Interruption) {
        if let Stage::Open { pod, .. } = std::mem::replace(&mut self.stage, Stage::Done) {
            self.stage = self.retry(pod, interruption).await;
        }
    }

    /// Pauses before the next try. A log that is still being written is retried forever, others until [`PATIENCE`] is
    /// over.
    async fn retry(&mut self, pod: Followed, interruption: &Interruption) -> Stage {
        tracing::debug!(pod = pod.source.pod, %interruption, "failed to read a log");
        let since = *self.failing_since.get_or_insert_with(Instant::now);
        let is_written_to = self.context.follow && !self.has_ended(&pod);
        if interruption.is_permanent() || (!is_written_to && since.elapsed() >= PATIENCE) {
            return Stage::Cut(interruption.to_string().into());
        }
        sleep(PAUSE).await;
        Stage::Reading { pod }
    }

    fn has_ended(&self, pod: &Followed) -> bool {
        self.context.cache.pod_ended(&pod.key, &pod.uid).unwrap_or(true)
    }

    fn piece(&mut self, chunk: &Chunk) -> Piece {
        self.failing_since = None;
        let text = if self.style.timestamps {
            chunk.write(self.position, &self.style)
        } else {
            chunk.common(self.position, &self.style)
        };
        self.position = self.position.max(chunk.after());
        Piece {
            text,
            is_open: chunk.is_open(),
            begins: std::mem::take(&mut self.begins),
        }
    }
}
