//! Which files the nodes of tasks may fetch from the server, and which are kept for them.

use archive::FilesInUse;

use super::Executor;
use crate::delivery::{self, FileAccess};
use crate::error::Error;

impl Executor {
    /// What the token of a task gives access to, or `None` if it is wrong, or its task has ended or does not exist.
    ///
    /// # Errors
    /// [`Error::OutOfSync`], or a failure of Kubernetes.
    pub async fn file_access(&self, token: &str) -> Result<Option<FileAccess>, Error> {
        self.health.check()?;
        delivery::find_access(&self.client, &self.cache, token).await
    }

    /// What tasks use in the store of files.
    ///
    /// # Errors
    /// [`Error::OutOfSync`]: without the tasks, nobody knows which files are in use.
    pub fn files_in_use(&self) -> Result<FilesInUse, Error> {
        self.health.check()?;
        Ok(delivery::in_use(&self.cache))
    }
}
