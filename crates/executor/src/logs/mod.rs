//! Streams the log of a task: all nodes merged into one live stream of bytes.
//!
//! ```text
//! kube-apiserver -> hub (one stream per pod) -> ring -> node (ring cursor, or its own read) -> merge -> follower
//! ```
//!
//! A follower holds at most one chunk per node. If it cannot keep up, it leaves the shared stream, reads on its own
//! what it missed, and joins again.

mod chunk;
#[cfg(fuzzing)]
pub mod fuzz;
mod hub;
mod merge;
mod node;
mod parse;
mod position;
mod ring;
mod upstream;

use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use jiff::Timestamp;

use self::hub::Hubs;
use self::merge::Merged;
use self::node::{Context, NodeLog};
use self::position::Position;
use crate::cache::{Cache, View};
use crate::kubernetes::Calls;

/// Which part of a task's log to stream, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Whether to follow the log until the task ends.
    pub follow: bool,
    /// The number of most recent lines of each node. All by default.
    pub tail: Option<u32>,
    /// Only lines written at or after this time.
    pub since: Option<Timestamp>,
    /// Whether to prefix each line with its time.
    pub timestamps: bool,
    /// Only the node with this rank.
    pub node: Option<u32>,
}

/// The rest of a log cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("could not read the rest of the log of node {node}: {reason}")]
pub struct LogCut {
    /// The rank of the node.
    pub node: u32,
    /// The last error.
    pub reason: Arc<str>,
}

/// The log streams of this process.
pub(crate) struct Logs {
    calls: Calls,
    cache: Arc<Cache>,
    hubs: Arc<Hubs>,
}

impl Logs {
    pub fn new(calls: Calls, cache: Arc<Cache>) -> Self {
        Self {
            calls,
            cache,
            hubs: Arc::default(),
        }
    }

    /// Streams the log of a task. The stream ends with the task, or with an error if the rest cannot be read. Dropping
    /// it releases its streams from the kube-apiserver.
    pub fn stream(
        &self,
        view: &View,
        options: &LogOptions,
    ) -> impl Stream<Item = Result<Bytes, LogCut>> + Send + use<> {
        let context = Context {
            calls: self.calls.clone(),
            cache: Arc::clone(&self.cache),
            hubs: Arc::clone(&self.hubs),
            key: Arc::clone(&view.key),
            num_nodes: view.num_nodes,
            follow: options.follow,
            tail: options.tail,
            since: options.since.map_or(Position::START, Position::since),
            timestamps: options.timestamps,
        };
        let wanted = |rank: &u32| options.node.is_none_or(|node| node == *rank);
        let ranks: Vec<u32> = (0..view.num_nodes).filter(wanted).collect();
        let nodes = ranks.into_iter().map(move |rank| {
            let log = NodeLog::new(context.clone(), rank);
            stream::unfold(log, |mut log| async move { log.next().await.map(|piece| (piece, log)) }).boxed()
        });
        Merged::new(nodes)
    }
}
