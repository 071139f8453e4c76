//! Logs of pods that are gone, from the archive.

use std::time::Duration;

use archive::{Archive, LogKey, Position, ReadFrom, RecordKey};
use futures::TryStreamExt;
use tokio::time::{Instant, sleep};

use super::position::LogPosition;
use super::reader::{LogReader, LogSource, ReadError, ReadRange};
use super::shared_stream::PodLog;

/// How long a follower waits for the rest of a log that is still being written to the archive, and how often it looks.
/// Servers write every few seconds.
const WRITE_PATIENCE: Duration = Duration::from_secs(20);
const WRITE_POLL: Duration = Duration::from_millis(250);

/// How long a follower waits for a log of which nothing is in the archive. A pod that never started has none.
const LIST_PATIENCE: Duration = Duration::from_secs(8);

/// The logs in the archive.
#[derive(Clone)]
pub(crate) struct ArchivedLogs(pub Archive);

impl ArchivedLogs {
    /// Opens the log of a pod that is gone, or returns `None` if the archive does not have it. If the log is `followed`,
    /// waits until its end has been written.
    pub(super) async fn open(
        &self,
        pod: &PodLog,
        range: ReadRange,
        is_followed: bool,
    ) -> Result<Option<LogReader>, ReadError> {
        let key = &pod.archived;
        let deadline = Instant::now() + WRITE_PATIENCE;
        loop {
            let log = self.0.readable_log(key.clone()).await.map_err(ReadError::Archive)?;
            if log.is_ended() || !is_followed || Instant::now() >= deadline {
                if log.after().is_none() && !log.is_ended() {
                    return Ok(None);
                }
                break;
            }
            sleep(WRITE_POLL).await;
        }
        self.open_source(key.clone(), &pod.source, range).await.map(Some)
    }

    /// Opens a log.
    pub(super) async fn open_source(
        &self,
        key: LogKey,
        source: &LogSource,
        range: ReadRange,
    ) -> Result<LogReader, ReadError> {
        let from = match range.tail {
            Some(lines) => ReadFrom::Tail(lines),
            None => ReadFrom::Position(range.from.to_archive()),
        };
        let text = self.0.read_log(key, from).await.map_err(ReadError::Archive)?;
        let text = text.map_err(std::io::Error::other).into_async_read();
        Ok(LogReader::of_stream(Box::pin(text), source, range))
    }

    /// The logs of a task, in the order of nodes, attempts, and pods. Waits for one of this node and attempt, whose pod may
    /// have gone a moment ago; once the record of the task is written, nothing more comes.
    pub(super) async fn of_task(
        &self,
        task: &RecordKey,
        (rank, attempt): (u32, u32),
    ) -> Result<Vec<LogKey>, archive::Error> {
        let deadline = Instant::now() + LIST_PATIENCE;
        loop {
            let is_complete = self.0.has_record(task).await?;
            let logs = self.0.logs_of(task).await?;
            let is_there = logs.iter().any(|log| (log.rank, log.attempt) == (rank, attempt));
            if is_there || is_complete || Instant::now() >= deadline {
                return Ok(logs);
            }
            sleep(WRITE_POLL).await;
        }
    }
}

impl LogPosition {
    /// The same position for the archive; `None` at the beginning.
    pub(crate) fn to_archive(self) -> Option<Position> {
        let (time, lines, bytes) = self.parts();
        (self != Self::START).then_some(Position { time, lines, bytes })
    }

    /// A position from the archive.
    pub(crate) fn from_archive(position: Option<Position>) -> Self {
        position.map_or(Self::START, |at| Self::from_parts(at.time, at.lines, at.bytes))
    }
}
