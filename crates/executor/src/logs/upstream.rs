//! One answer of the API server: the log of a pod, with times.

use std::pin::Pin;
use std::time::Duration;

use futures::{AsyncBufRead, AsyncBufReadExt, FutureExt};
use tokio::time::timeout;

use super::chunk::{Chunk, Style};
use super::parse::{NotALog, Parser};
use super::position::Position;
use crate::kubernetes::{Calls, LogParams, Pod};
use crate::labels;

/// How long the API server may take to begin an answer that does not follow.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// How much is taken at once.
const MAX_READ: usize = 32 * 1024;

/// What to read.
#[derive(Debug, Clone)]
pub(super) struct Source {
    /// The pod's name.
    pub pod: String,
    /// How chunks are prepared.
    pub style: Style,
}

/// Which part to read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    /// Everything behind this.
    pub from: Position,
    /// Not more than so many lines from the end.
    pub tail: Option<u32>,
    /// Whether to go on until the container ends.
    pub follow: bool,
}

/// Why reading ended before the log did.
#[derive(Debug, thiserror::Error)]
pub(super) enum Interruption {
    #[error("the log could not be opened: {0}")]
    Open(#[source] kube::Error),
    #[error("the API server did not begin to answer")]
    Timeout,
    #[error("the connection broke: {0}")]
    Broken(#[source] std::io::Error),
    #[error(transparent)]
    NotALog(#[from] NotALog),
}

impl Interruption {
    /// Whether the pod is gone, and its log with it.
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Open(kube::Error::Api(status)) if status.is_not_found())
    }
}

/// A log that is being read.
pub(super) struct Reader {
    stream: Pin<Box<dyn AsyncBufRead + Send>>,
    parser: Parser,
    style: Style,
    buffer: Vec<u8>,
    /// How the connection broke, behind what is in the buffer.
    broken: Option<std::io::Error>,
}

impl Reader {
    /// Asks for a part of a log. A log that is followed may begin to be answered only with its next line.
    pub async fn open(calls: &Calls, source: &Source, part: Part) -> Result<Self, Interruption> {
        let params = LogParams {
            container: Some(labels::CONTAINER.to_owned()),
            follow: part.follow,
            timestamps: true,
            since_time: part.from.resume_time(),
            tail_lines: part.tail.map(i64::from),
            ..LogParams::default()
        };
        let api = calls.api::<Pod>();
        let opening = api.log_stream(&source.pod, &params);
        let stream = if part.follow {
            opening.await
        } else {
            timeout(OPEN_TIMEOUT, opening)
                .await
                .map_err(|_| Interruption::Timeout)?
        };
        Ok(Self {
            stream: Box::pin(stream.map_err(Interruption::Open)?),
            parser: Parser::resume(part.from),
            style: source.style.clone(),
            buffer: Vec::new(),
            broken: None,
        })
    }

    /// Behind everything that was given out.
    pub fn position(&self) -> Position {
        self.parser.position()
    }

    /// The next chunk; `None` at the end of the answer.
    pub async fn next(&mut self) -> Result<Option<Chunk>, Interruption> {
        loop {
            if let Some(error) = self.broken.take() {
                return Err(Interruption::Broken(error));
            }
            let bytes = self.stream.fill_buf().await.map_err(Interruption::Broken)?;
            if bytes.is_empty() {
                return Ok(None);
            }
            let size = bytes.len().min(MAX_READ);
            self.buffer.clear();
            self.buffer.extend_from_slice(&bytes[..size]);
            self.stream.consume_unpin(size);
            self.take_what_is_there();
            let chunk = self.parser.push(&self.buffer, &self.style)?;
            if chunk.is_some() {
                return Ok(chunk);
            }
        }
    }

    /// The API server sends each line by itself; those that have arrived together are passed on together.
    fn take_what_is_there(&mut self) {
        while self.buffer.len() < MAX_READ {
            match self.stream.fill_buf().now_or_never() {
                Some(Ok(bytes)) if !bytes.is_empty() => {
                    let size = bytes.len().min(MAX_READ);
                    self.buffer.extend_from_slice(&bytes[..size]);
                    self.stream.consume_unpin(size);
                }
                Some(Err(error)) => {
                    self.broken = Some(error);
                    return;
                }
                Some(Ok(_)) | None => return,
            }
        }
    }

    /// A last line without a newline, when the log is known to have ended.
    pub fn finish(&mut self) -> Result<Option<Chunk>, Interruption> {
        Ok(self.parser.finish(&self.style)?)
    }
}
