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

/// How long the part of a line is kept back whose end does not come.
const PART_PAUSE: Duration = Duration::from_millis(250);

/// How much is gathered before it is passed on.
const MAX_READ: usize = 64 * 1024;

/// What to read.
#[derive(Debug, Clone)]
pub(super) struct Source {
    /// The pod's name.
    pub pod: String,
    /// How chunks are prepared.
    pub style: Style,
    /// Whether a line is shown while it grows. Those of several nodes stay whole: each would hold up the others, or be torn.
    pub shows_parts: bool,
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
    shows_parts: bool,
    buffer: Vec<u8>,
    /// How the connection broke, behind what is in the buffer.
    broken: Option<Interruption>,
    /// Since when bytes are kept back until the end of their line.
    held_since: Option<Instant>,
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
            shows_parts: source.shows_parts,
            buffer: Vec::new(),
            broken: None,
            held_since: None,
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
            if let Some(due) = self.part_due() {
                let is_over = match timeout_at(due, self.wait()).await {
                    Ok(more) => !more?,
                    Err(_) => false,
                };
                if Instant::now() >= due {
                    self.held_since = None;
                    if let Some(chunk) = self.finish()? {
                        return Ok(Some(chunk));
                    }
                }
                if is_over {
                    return Ok(None);
                }
            } else if !self.wait().await? {
                return Ok(None);
            }
            self.gather(Instant::now() + pace).await;
            let chunk = self.parser.push(&self.buffer, &self.style);
            self.buffer.clear();
            let holds = self.parser.holds_a_part();
            let since = self.held_since.filter(|_| holds);
            self.held_since = since.or_else(|| holds.then(Instant::now));
            if let Some(chunk) = chunk? {
                return Ok(Some(chunk));
            }
        }
    }

    /// When the part of a line that has not ended is passed on: somebody may watch a progress bar.
    fn part_due(&self) -> Option<Instant> {
        let since = self.held_since.filter(|_| self.shows_parts);
        since.map(|since| since + PART_PAUSE)
    }

    /// Waits until there is something in the buffer; false at the end of the answer.
    async fn wait(&mut self) -> Result<bool, Interruption> {
        Ok(!self.buffer.is_empty() || self.take().await?)
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

#[cfg(test)]
mod tests {
    use super::{Duration, Parser, Position, Reader, Style};

    fn reader(text: &'static [u8], shows_parts: bool, pauses: bool) -> Reader {
        let stream: std::pin::Pin<Box<dyn futures::AsyncBufRead + Send>> = if pauses {
            let endless = futures::stream::once(async move { Ok::<_, std::io::Error>(text) });
            let endless = futures::StreamExt::chain(endless, futures::stream::pending());
            Box::pin(futures::TryStreamExt::into_async_read(Box::pin(endless)))
        } else {
            Box::pin(futures::io::Cursor::new(text))
        };
        Reader {
            stream,
            parser: Parser::resume(Position::START),
            style: Style {
                prefix: "attempt-2 | ".to_owned(),
                timestamps: false,
            },
            shows_parts,
            buffer: Vec::new(),
            broken: None,
            held_since: None,
            patience: None,
        }
    }

    /// The second attempt of one node has a prefix, and nobody beside it.
    #[tokio::test(start_paused = true)]
    async fn a_line_that_grows_is_shown_with_its_prefix_when_there_is_no_other_node() {
        let text = b"2026-11-23T15:30:34.5Z whole\n2026-11-23T15:30:35.5Z 20 %";
        let mut alone = reader(text, true, true);
        let mut seen = String::new();
        while !seen.ends_with("20 %") {
            let chunk = alone.next(Duration::ZERO).await.unwrap().unwrap();
            seen.push_str(std::str::from_utf8(&chunk.common(Position::START, &alone.style)).unwrap());
        }
        assert_eq!(seen, "attempt-2 | whole\nattempt-2 | 20 %");
        let mut of_many = reader(text, false, true);
        let first = of_many.next(Duration::ZERO).await.unwrap().unwrap();
        assert_eq!(
            &first.common(Position::START, &of_many.style)[..],
            b"attempt-2 | whole\n"
        );
        let more = tokio::time::timeout(Duration::from_secs(60), of_many.next(Duration::ZERO)).await;
        assert!(more.is_err(), "the part of a line is kept back");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_left_of_a_line_at_the_end_of_the_answer_is_kept_for_whoever_asks() {
        let mut reader = reader(b"2026-11-23T15:30:34.5Z no end", true, false);
        assert!(reader.next(Duration::ZERO).await.unwrap().is_none());
        let last = reader.finish().unwrap().unwrap();
        assert_eq!(&last.common(Position::START, &reader.style)[..], b"attempt-2 | no end");
    }
}
