//! Streams the log of a task: all nodes merged into one live stream of bytes.
//!
//! ```text
//! kube-apiserver -> shared_stream (one per pod) -> ring -> node_log (cursor, or its own read) -> merge -> follower
//! ```
//!
//! A follower holds at most one chunk per node. If it cannot keep up, it leaves the shared stream, reads on its own
//! what it missed, and joins again.

mod archived;
mod checkpoints;
mod chunk;
#[cfg(fuzzing)]
pub(crate) mod fuzz;
mod gap;
mod merge;
mod node_log;
mod parse;
mod pod_log;
mod position;
mod reader;
mod ring;
mod shared_stream;
mod task_log;
mod truncated;

pub(crate) use chunk::{Chunk, LineStyle};
pub(crate) use gap::{Missing, missing_before};
#[cfg(test)]
pub(crate) use parse::Parser;
pub(crate) use pod_log::{LogOrigin, PodFollower, PodLogEnd, PodLogItem, PodLogRange};
pub(crate) use position::LogPosition;
pub(crate) use shared_stream::PodLog;
pub use task_log::LogOptions;
pub(crate) use task_log::LogStreams;
pub use truncated::LogTruncated;
