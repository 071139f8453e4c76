//! The log of a task as one stream.

use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use jiff::Timestamp;

use super::merge::MergedLog;
use super::node_log::{FollowerContext, NodeLog};
use super::position::LogPosition;
use super::shared_stream::SharedStreams;
use super::truncated::LogTruncated;
use crate::cache::{Cache, TaskSnapshot};
use crate::kubernetes::ApiClient;

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

/// The log streams of this process.
pub(crate) struct LogStreams {
    client: ApiClient,
    cache: Arc<Cache>,
    shared_streams: Arc<SharedStreams>,
}

impl LogStreams {
    pub(crate) fn new(client: ApiClient, cache: Arc<Cache>) -> Self {
        Self {
            client,
            cache,
            shared_streams: Arc::default(),
        }
    }

    /// Streams the log of a task. The stream ends with the task, or with an error if the rest cannot be read. Dropping
    /// it releases its streams from the kube-apiserver.
    pub(crate) fn stream(
        &self,
        snapshot: &TaskSnapshot,
        options: &LogOptions,
    ) -> impl Stream<Item = Result<Bytes, LogTruncated>> + Send + use<> {
        let context = FollowerContext {
            client: self.client.clone(),
            cache: Arc::clone(&self.cache),
            shared_streams: Arc::clone(&self.shared_streams),
            key: Arc::clone(&snapshot.key),
            num_nodes: snapshot.num_nodes,
            follow: options.follow,
            tail: options.tail,
            since: options.since.map_or(LogPosition::START, LogPosition::since),
            timestamps: options.timestamps,
        };
        let wanted = |rank: &u32| options.node.is_none_or(|node| node == *rank);
        let ranks: Vec<u32> = (0..snapshot.num_nodes).filter(wanted).collect();
        let nodes = ranks.into_iter().map(move |rank| {
            let log = NodeLog::new(context.clone(), rank);
            stream::unfold(log, |mut log| async move { log.next().await.map(|piece| (piece, log)) }).boxed()
        });
        MergedLog::new(nodes)
    }
}
