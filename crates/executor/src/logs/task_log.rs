//! The log of a task as one stream.

use std::sync::Arc;

use archive::{Archive, LogKey, RecordKey};
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, stream};
use jiff::Timestamp;

use super::archived::ArchivedLogs;
use super::merge::MergedLog;
use super::node_log::{FollowerContext, LogPiece, NodeLog};
use super::pod_log::LogOrigin;
use super::position::LogPosition;
use super::truncated::LogTruncated;
use crate::cache::{Cache, TaskKey, TaskSnapshot};
use crate::kubernetes::ApiClient;
use crate::record_key::record_key;

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
    origin: LogOrigin,
}

impl LogStreams {
    pub(crate) fn new(client: ApiClient, cache: Arc<Cache>, archive: Option<Archive>) -> Self {
        Self {
            origin: LogOrigin {
                client,
                cache,
                shared_streams: Arc::default(),
                archived: archive.map(ArchivedLogs),
            },
        }
    }

    /// Where the logs of pods come from, for the archive: not from the archive.
    pub(crate) fn pod_origin(&self) -> LogOrigin {
        LogOrigin {
            archived: None,
            ..self.origin.clone()
        }
    }

    /// Streams the log of a task. The stream ends with the task, or with an error if the rest cannot be read. Dropping
    /// it releases its streams from the kube-apiserver.
    pub(crate) fn stream(
        &self,
        snapshot: &TaskSnapshot,
        options: &LogOptions,
    ) -> impl Stream<Item = Result<Bytes, LogTruncated>> + Send + use<> {
        let context = self.context(&snapshot.key, record_key(snapshot), snapshot.num_nodes, options);
        let ranks = ranks(snapshot.num_nodes, options);
        MergedLog::new(
            ranks
                .into_iter()
                .map(|rank| pieces(NodeLog::new(context.clone(), rank))),
        )
    }

    /// Streams the log of a task that is gone: these logs of its pods.
    pub(crate) fn archived(
        &self,
        logs: &[LogKey],
        (key, record): (Arc<TaskKey>, RecordKey),
        num_nodes: u32,
        options: &LogOptions,
    ) -> impl Stream<Item = Result<Bytes, LogTruncated>> + Send + use<> {
        let context = self.context(&key, record, num_nodes, options);
        let ranks = ranks(num_nodes, options);
        let nodes = ranks
            .into_iter()
            .map(|rank| pieces(NodeLog::of_archive(context.clone(), rank, logs)))
            .collect::<Vec<_>>();
        MergedLog::new(nodes)
    }

    fn context(&self, key: &Arc<TaskKey>, record: RecordKey, num_nodes: u32, options: &LogOptions) -> FollowerContext {
        FollowerContext {
            origin: self.origin.clone(),
            key: Arc::clone(key),
            record,
            archived: Arc::default(),
            num_nodes,
            follow: options.follow,
            tail: options.tail,
            since: options.since.map_or(LogPosition::START, LogPosition::since),
            timestamps: options.timestamps,
        }
    }
}

/// The nodes whose logs are asked for.
fn ranks(num_nodes: u32, options: &LogOptions) -> Vec<u32> {
    let wanted = |rank: &u32| options.node.is_none_or(|node| node == *rank);
    (0..num_nodes).filter(wanted).collect()
}

fn pieces(log: NodeLog) -> BoxStream<'static, Result<LogPiece, LogTruncated>> {
    stream::unfold(log, |mut log| async move { log.next().await.map(|piece| (piece, log)) }).boxed()
}
