//! The part of the public interface about past tasks.

use archive::{HistoryFilter, RecordKey, UsageFilter};
use bytes::Bytes;
use futures::Stream;
use task::UserName;
use task::record::{HistoryPage, TaskRecord, UsageReport};

use super::Executor;
use crate::archiving::{ArchiveBacklog, Archiver};
use crate::error::Error;
use crate::history::ArchivedLog;
use crate::logs::{LogOptions, LogTruncated};
use crate::{history, usage};

impl Executor {
    /// Whether records and logs outlive their tasks.
    #[must_use]
    pub fn has_archive(&self) -> bool {
        self.settings.archive.is_some()
    }

    /// Whether the list of past tasks may lack some, because the server has started a moment ago.
    #[must_use]
    pub fn is_history_incomplete(&self) -> bool {
        self.settings
            .archive
            .as_ref()
            .is_some_and(|archive| !archive.is_indexed())
    }

    /// How far the archive is behind, if there is one.
    #[must_use]
    pub fn archive_backlog(&self) -> Option<ArchiveBacklog> {
        self.archiver.as_deref().map(Archiver::backlog)
    }

    /// Past and present tasks, newest first.
    ///
    /// # Errors
    /// [`Error::OutOfSync`], or a failure of the archive.
    pub async fn history(&self, filter: HistoryFilter) -> Result<HistoryPage, Error> {
        self.health.check()?;
        history::page(&self.history_sources(), filter).await
    }

    /// What is known about a past or present task, if it belongs to the user.
    ///
    /// # Errors
    /// [`Error::OutOfSync`], or a failure of the archive.
    pub async fn record(&self, user: &UserName, id: &str) -> Result<Option<TaskRecord>, Error> {
        let live = self.task(user, id)?;
        history::record(&self.history_sources(), live.as_deref(), user, id).await
    }

    /// The name under which the store of files has the outputs of a past or present task of this user; `None` if there is
    /// no such task.
    ///
    /// # Errors
    /// [`Error::OutOfSync`], or a failure of the archive.
    pub async fn outputs_key(&self, user: &UserName, id: &str) -> Result<Option<RecordKey>, Error> {
        let live = self.task(user, id)?;
        history::key(&self.history_sources(), live.as_deref(), user, id).await
    }

    /// The log of a task that is gone, if it belonged to the user.
    ///
    /// # Errors
    /// A failure of the archive.
    pub async fn archived_logs(
        &self,
        user: &UserName,
        id: &str,
        options: &LogOptions,
    ) -> Result<Option<ArchivedLog<impl Stream<Item = Result<Bytes, LogTruncated>> + Send + use<>>>, Error> {
        history::logs(&self.history_sources(), &self.logs, user, id, options).await
    }

    /// What past and present tasks used, by user. Tasks that run are counted up to now.
    ///
    /// # Errors
    /// [`Error::OutOfSync`], or a failure of the archive.
    pub async fn usage(&self, filter: UsageFilter) -> Result<UsageReport, Error> {
        self.health.check()?;
        usage::report(&self.history_sources(), filter).await
    }

    fn history_sources(&self) -> history::Sources<'_> {
        history::Sources {
            cache: &self.cache,
            archiver: self.archiver.as_deref(),
            archive: self.settings.archive.as_ref(),
            now: self.client.now(),
        }
    }
}
