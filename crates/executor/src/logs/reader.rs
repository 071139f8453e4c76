//! Reads one log response of the kube-apiserver, with timestamps.

use std::pin::Pin;
use std::time::Duration;

use futures::{AsyncBufRead, AsyncBufReadExt};
use tokio::time::{Instant, timeout, timeout_at};

use super::chunk::{Chunk, LineStyle};
use super::parse::{NotALog, Parser};
use super::position::LogPosition;
use crate::error::describe_kube_error;
use crate::kubernetes::{ApiClient, LogParams, Pod};
use crate::labels;

/// How long a response that does not follow the log may be silent.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an incomplete line is held back.
const PARTIAL_LINE_PAUSE: Duration = Duration::from_millis(250);

/// The most bytes collected before they are passed on.
const MAX_READ: usize = 64 * 1024;

/// Which pod to read, and how to render its log.
#[derive(Debug, Clone)]
pub(crate) struct LogSource {
    /// The name of the pod.
    pub pod: String,
    /// The common style of the chunks.
    pub style: LineStyle,
    /// Whether to show incomplete lines. With several nodes, lines stay whole: an incomplete one would block the other
    /// nodes, or be torn apart.
    pub shows_partial_lines: bool,
}

/// Which part of the log to read.
#[derive(Debug, Clone, Copy)]
pub(super) struct ReadRange {
    /// Everything after this position.
    pub from: LogPosition,
    /// The most lines, counted from the end.
    pub tail: Option<u32>,
    /// Whether to follow the log until the container ends.
    pub follow: bool,
}

/// Why a read ended before the log did.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error("{}", describe_kube_error(.0))]
    Open(#[source] kube::Error),
    #[error("the Kubernetes API did not respond in time")]
    Timeout,
    #[error("connection lost: {0}")]
    Broken(#[source] std::io::Error),
    #[error(transparent)]
    NotALog(#[from] NotALog),
    #[error("the pod is gone")]
    Gone,
    #[error("{0}")]
    Archive(#[source] archive::Error),
}

impl ReadError {
    /// Whether the pod, and its log with it, is gone.
    pub(crate) fn is_gone(&self) -> bool {
        match self {
            Self::Open(kube::Error::Api(status)) => status.is_not_found(),
            error => matches!(error, Self::Gone),
        }
    }

    /// Whether a retry would fail as well, e.g., without permission to read logs.
    pub(crate) fn is_permanent(&self) -> bool {
        match self {
            Self::Open(kube::Error::Api(status)) => matches!(status.code, 403 | 405 | 422),
            error => matches!(error, Self::Archive(archive::Error::Invalid { .. })),
        }
    }
}

/// A log that is being read.
pub(super) struct LogReader {
    stream: Pin<Box<dyn AsyncBufRead + Send>>,
    parser: Parser,
    style: LineStyle,
    shows_partial_lines: bool,
    buffer: Vec<u8>,
    /// A connection error to report once the buffer has been passed on.
    broken: Option<ReadError>,
    /// Since when an incomplete line has been held back.
    held_since: Option<Instant>,
    /// How long the response may be silent. `None` for a followed log, which may be silent for days.
    patience: Option<Duration>,
}

impl LogReader {
    /// Requests a part of a log. When following, the kube-apiserver may not respond before the next line is written, so
    /// there is no timeout.
    pub(crate) async fn open(client: &ApiClient, source: &LogSource, range: ReadRange) -> Result<Self, ReadError> {
        let params = LogParams {
            container: Some(labels::CONTAINER.to_owned()),
            follow: range.follow,
            timestamps: true,
            since_time: range.from.resume_time(),
            tail_lines: range.tail.map(i64::from),
            ..LogParams::default()
        };
        let api = client.namespaced::<Pod>();
        let opening = api.log_stream(&source.pod, &params);
        let stream = if range.follow {
            opening.await
        } else {
            timeout(OPEN_TIMEOUT, opening).await.map_err(|_| ReadError::Timeout)?
        };
        let stream = stream.inspect_err(|error| client.report_denial(error));
        Ok(Self {
            patience: (!range.follow).then_some(OPEN_TIMEOUT),
            ..Self::of_stream(Box::pin(stream.map_err(ReadError::Open)?), source, range)
        })
    }

    /// Reads a response, or the same text from elsewhere.
    pub(crate) fn of_stream(stream: Pin<Box<dyn AsyncBufRead + Send>>, source: &LogSource, range: ReadRange) -> Self {
        Self {
            stream,
            parser: Parser::resume(range.from),
            style: source.style.clone(),
            shows_partial_lines: source.shows_partial_lines,
            buffer: Vec::new(),
            broken: None,
            held_since: None,
            patience: None,
        }
    }

    /// The position after everything that was passed on.
    pub(crate) fn position(&self) -> LogPosition {
        self.parser.position()
    }

    /// Returns the next chunk, or `None` at the end of the response. Collects data for `pace` after the first bytes,
    /// because the kube-apiserver sends each line separately.
    pub(crate) async fn next(&mut self, pace: Duration) -> Result<Option<Chunk>, ReadError> {
        loop {
            if let Some(error) = self.broken.take() {
                return Err(error);
            }
            if let Some(due) = self.partial_line_due() {
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
            let holds = self.parser.has_partial_line();
            let since = self.held_since.filter(|_| holds);
            self.held_since = since.or_else(|| holds.then(Instant::now));
            if let Some(chunk) = chunk? {
                return Ok(Some(chunk));
            }
        }
    }

    /// When to show an incomplete line, e.g., a progress bar or a prompt.
    fn partial_line_due(&self) -> Option<Instant> {
        let since = self.held_since.filter(|_| self.shows_partial_lines);
        since.map(|since| since + PARTIAL_LINE_PAUSE)
    }

    /// Waits for data in the buffer. Returns false at the end of the response.
    async fn wait(&mut self) -> Result<bool, ReadError> {
        Ok(!self.buffer.is_empty() || self.fill().await?)
    }

    /// Reads until the buffer is full, the deadline passes, or the response ends.
    async fn gather(&mut self, deadline: Instant) {
        while self.buffer.len() < MAX_READ {
            match timeout_at(deadline, self.fill()).await {
                Ok(Ok(true)) => {}
                Ok(Err(error)) => {
                    self.broken = Some(error);
                    return;
                }
                Ok(Ok(false)) | Err(_) => return,
            }
        }
    }

    /// Moves received data into the buffer. Returns false at the end of the response. Cancel-safe.
    async fn fill(&mut self) -> Result<bool, ReadError> {
        let filling = self.stream.fill_buf();
        let bytes = match self.patience {
            Some(patience) => timeout(patience, filling).await.map_err(|_| ReadError::Timeout)?,
            None => filling.await,
        };
        let bytes = bytes.map_err(ReadError::Broken)?;
        let size = bytes.len();
        self.buffer.extend_from_slice(bytes);
        self.stream.consume_unpin(size);
        Ok(size > 0)
    }

    /// Returns a last line without a newline. Call this only if the log is known to have ended.
    pub(crate) fn finish(&mut self) -> Result<Option<Chunk>, ReadError> {
        Ok(self.parser.finish(&self.style)?)
    }
}

#[cfg(test)]
mod tests {
    use super::{Duration, LineStyle, LogPosition, LogReader, Parser};

    fn reader(text: &'static [u8], shows_partial_lines: bool, pauses: bool) -> LogReader {
        let stream: std::pin::Pin<Box<dyn futures::AsyncBufRead + Send>> = if pauses {
            let endless = futures::stream::once(async move { Ok::<_, std::io::Error>(text) });
            let endless = futures::StreamExt::chain(endless, futures::stream::pending());
            Box::pin(futures::TryStreamExt::into_async_read(Box::pin(endless)))
        } else {
            Box::pin(futures::io::Cursor::new(text))
        };
        LogReader {
            stream,
            parser: Parser::resume(LogPosition::START),
            style: LineStyle {
                prefix: "attempt-2 | ".to_owned(),
                timestamps: false,
            },
            shows_partial_lines,
            buffer: Vec::new(),
            broken: None,
            held_since: None,
            patience: None,
        }
    }

    /// The second attempt of a single node has a prefix, but no other node to wait for.
    #[tokio::test(start_paused = true)]
    async fn a_line_that_grows_is_shown_with_its_prefix_when_there_is_no_other_node() {
        let text = b"2026-11-23T15:30:34.5Z whole\n2026-11-23T15:30:35.5Z 20 %";
        let mut alone = reader(text, true, true);
        let mut seen = String::new();
        while !seen.ends_with("20 %") {
            let chunk = alone.next(Duration::ZERO).await.unwrap().unwrap();
            seen.push_str(std::str::from_utf8(&chunk.common(LogPosition::START, &alone.style)).unwrap());
        }
        assert_eq!(seen, "attempt-2 | whole\nattempt-2 | 20 %");
        let mut of_many = reader(text, false, true);
        let first = of_many.next(Duration::ZERO).await.unwrap().unwrap();
        assert_eq!(
            &first.common(LogPosition::START, &of_many.style)[..],
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
        assert_eq!(
            &last.common(LogPosition::START, &reader.style)[..],
            b"attempt-2 | no end"
        );
    }
}
