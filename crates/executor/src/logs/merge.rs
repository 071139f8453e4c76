//! Merges the logs of all nodes into one stream without tearing lines apart.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use tokio::time::{Instant, Sleep};

use super::node_log::LogPiece;
use super::truncated::LogTruncated;

/// How long the other nodes wait for the rest of an incomplete line. After that, it is broken with a newline.
const LINE_PATIENCE: Duration = Duration::from_secs(2);

type Node = Pin<Box<dyn Stream<Item = Result<LogPiece, LogTruncated>> + Send>>;

/// The merged stream.
pub(super) struct MergedLog {
    nodes: VecDeque<Node>,
    /// Whether the first node is in the middle of a line, and keeps its turn.
    within_line: bool,
    /// Whether the last byte returned was not a newline.
    unterminated: bool,
    /// When the other nodes stop waiting for the rest of the line.
    patience: Pin<Box<Sleep>>,
}

impl MergedLog {
    pub(crate) fn new(nodes: impl IntoIterator<Item = Node>) -> Self {
        Self {
            nodes: nodes.into_iter().collect(),
            within_line: false,
            unterminated: false,
            patience: Box::pin(tokio::time::sleep(Duration::ZERO)),
        }
    }

    fn emit(&mut self, piece: &LogPiece, continues: bool) -> Bytes {
        let needs_newline = self.unterminated && !continues;
        self.unterminated = piece.is_open;
        self.within_line = piece.is_open;
        if piece.is_open {
            self.patience.as_mut().reset(Instant::now() + LINE_PATIENCE);
        }
        if needs_newline {
            // Insert a newline, so that this line does not continue an unterminated one of another node.
            let mut text = Vec::with_capacity(piece.text.len() + 1);
            text.push(b'\n');
            text.extend_from_slice(&piece.text);
            return text.into();
        }
        piece.text.clone()
    }
}

impl Stream for MergedLog {
    type Item = Result<Bytes, LogTruncated>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let mut continues = this.within_line;
        let mut asked = 0;
        while asked < this.nodes.len() {
            let Some(mut node) = this.nodes.pop_front() else { break };
            match node.as_mut().poll_next(context) {
                // End the whole stream. If the other nodes continued, the gap would go unnoticed.
                Poll::Ready(Some(Err(cut))) => {
                    this.nodes.clear();
                    return Poll::Ready(Some(Err(cut)));
                }
                Poll::Ready(Some(Ok(piece))) => {
                    let text = this.emit(&piece, continues && !piece.begins);
                    if this.within_line {
                        this.nodes.push_front(node);
                    } else {
                        this.nodes.push_back(node);
                    }
                    if text.is_empty() {
                        continues = this.within_line;
                        asked = 0;
                        continue;
                    }
                    return Poll::Ready(Some(Ok(text)));
                }
                Poll::Ready(None) => {
                    this.within_line = false;
                    continues = false;
                }
                Poll::Pending if this.within_line => {
                    this.nodes.push_front(node);
                    if this.nodes.len() == 1 || this.patience.as_mut().poll(context).is_pending() {
                        return Poll::Pending;
                    }
                    this.within_line = false;
                    continues = false;
                    if let Some(node) = this.nodes.pop_front() {
                        this.nodes.push_back(node);
                    }
                    asked += 1;
                }
                Poll::Pending => {
                    this.nodes.push_back(node);
                    asked += 1;
                }
            }
        }
        if this.nodes.is_empty() {
            return Poll::Ready(None);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests;
