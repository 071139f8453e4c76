//! The error that ends the log of a task early.

use std::sync::Arc;

/// The rest of a log cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("could not read the rest of the log of node {node}: {reason}")]
pub struct LogTruncated {
    /// The rank of the node.
    pub node: u32,
    /// The last error.
    pub reason: Arc<str>,
}
