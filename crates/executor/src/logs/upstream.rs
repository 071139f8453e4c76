//! One answer of the API server: the log of a pod, with times.

use std::pin::Pin;
use std::time::Duration;

use futures::{AsyncBufRead, AsyncBufReadExt};
use tokio::time::{Instant, timeout, timeout_at};

use super::chunk::{Chunk, Style};
use super::parse::{NotALog, Parser};
use super::position::Position;
use crate::error::explain;
use crate::kubernetes::{Calls, LogParams, Pod};
use crate::labels;

/// How long nothing may arrive of an answer that does not follow.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// How much is gathered before it is passed on.
const MAX_READ: usize = 64 * 1024;

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
    #[error("{}", explain(.0))]
    Open(#[source] kube::Error),
    #[error("the Kubernetes API did not answer")]
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

impl Interruption {
    /// Whether another try would be refused, too: we may not read logs, or the container has none.
    pub fn is_permanent(&self) -> bool {
        matches!(self, Self::Open(kube::Error::Api(status)) if matches!(status.code, 403 | 405 | 422))
    }
}

/// A log that is being read.
pub(super) struct Reader {
    stream: Pin<Box<dyn AsyncBufRead + Send>>,
    parser: Parser,
    style: Style,
    buffer: Vec<u8>,
    /// How the connection broke, behind what is in the buffer.
    broken: Option<Interruption>,
    /// How long nothing may arrive. A log that is followed may be silent for days.
    patience: Option<Duration>,
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
            patience: (!part.follow).then_some(OPEN_TIMEOUT),
        })
    }

    /// Behind everything that was given out.
    pub fn position(&self) -> Position {
        self.parser.position()
    }

    /// The next chunk; `None` at the end of the answer. What arrives within `pace` of the first bytes is a part of it: the
    /// API server sends each line by itself.
    pub async fn next(&mut self, pace: Duration) -> Result<Option<Chunk>, Interruption> {
        loop {
            if let Some(interruption) = self.broken.take() {
                return Err(interruption);
            }
            if self.buffer.is_empty() && !self.take().await? {
                return Ok(None);
            }
            self.gather(Instant::now() + pace).await;
            let chunk = self.parser.push(&self.buffer, &self.style);
            self.buffer.clear();
            if let Some(chunk) = chunk? {
                return Ok(Some(chunk));
            }
        }
    }

    /// Reads on until the buffer is full, the time is over, or the answer is.
    async fn gather(&mut self, deadline: Instant) {
        while self.buffer.len() < MAX_READ {
            match timeout_at(deadline, self.take()).await {
                Ok(Ok(true)) => {}
                Ok(Err(error)) => {
                    self.broken = Some(error);
                    return;
                }
                Ok(Ok(false)) | Err(_) => return,
            }
        }
    }

    /// Moves what has arrived into the buffer; false at the end of the answer. Can be dropped without losing anything.
    async fn take(&mut self) -> Result<bool, Interruption> {
        let filling = self.stream.fill_buf();
        let bytes = match self.patience {
            Some(patience) => timeout(patience, filling).await.map_err(|_| Interruption::Timeout)?,
            None => filling.await,
        };
        let bytes = bytes.map_err(Interruption::Broken)?;
        let size = bytes.len();
        self.buffer.extend_from_slice(bytes);
        self.stream.consume_unpin(size);
        Ok(size > 0)
    }

    /// A last line without a newline, when the log is known to have ended.
    pub fn finish(&mut self) -> Result<Option<Chunk>, Interruption> {
        Ok(self.parser.finish(&self.style)?)
    }
}
