//! Which files the nodes of tasks may fetch from the server, and which are kept for them.

use archive::FilesInUse;

use super::Executor;
use crate::delivery::{self, FileAccess, Purpose};
use crate::error::Error;
use crate::record_key::record_key;

impl Executor {
    /// What the token of a task gives access to, or `None` if it is wrong, or its task has ended or does not exist.
    ///
    /// # Errors
    /// [`Error::OutOfSync`], or a failure of Kubernetes.
    pub async fn file_access(&self, token: &str) -> Result<Option<FileAccess>, Error> {
        self.health.check()?;
        delivery::find_access(&self.client, &self.cache, token, Purpose::Fetch).await
    }

    /// Whose outputs the token of a task may keep, or `None` if it is wrong, or all nodes of its task have ended, or it does
    /// not exist.
    ///
    /// # Errors
    /// [`Error::OutOfSync`], or a failure of Kubernetes.
    pub async fn output_access(&self, token: &str) -> Result<Option<FileAccess>, Error> {
        self.health.check()?;
        delivery::find_access(&self.client, &self.cache, token, Purpose::Keep).await
    }

    /// What tasks use in the store of files.
    ///
    /// # Errors
    /// [`Error::OutOfSync`]: without the tasks, nobody knows which files are in use.
    pub fn files_in_use(&self) -> Result<FilesInUse, Error> {
        self.health.check()?;
        let mut in_use = delivery::in_use(&self.cache);
        // Those that are gone, but not in the archive yet.
        let ending = self.archiver.iter().flat_map(|archiver| archiver.ending());
        in_use.tasks.extend(ending.map(|snapshot| record_key(&snapshot)));
        Ok(in_use)
    }
}
