//! Logs of a task: all nodes in one live stream of bytes.
//!
//! ```text
//! apiserver -> hub (one stream for each pod) -> ring -> node (a place in it, or a read of its own) -> merge -> follower
//! ```
//!
//! A follower holds one chunk for each node at a time. One that cannot keep up leaves the shared stream, and comes back
//! when it has read by itself what it missed.

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

/// Which part of a task's log, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Whether to go on until the task ends; else what is there now.
    pub follow: bool,
    /// Only so many last lines of each node.
    pub tail: Option<u32>,
    /// Only what was written since.
    pub since: Option<Timestamp>,
    /// Whether each line starts with its time.
    pub timestamps: bool,
    /// Only this node.
    pub node: Option<u32>,
}

/// A log that could not be read to its end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the log of node {node} could not be read to its end: {reason}")]
pub struct LogCut {
    /// The rank of the node.
    pub node: u32,
    /// Why, in the words of who refused.
    pub reason: Arc<str>,
}

/// All log streams of this process.
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

    /// The log of a task. The stream ends when the task does, or with an error when the rest cannot be read; dropping it gives up
    /// what it holds upstream.
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
