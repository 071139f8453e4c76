//! Which files the nodes of tasks may fetch from the server, and which are kept for them.

use archive::FilesInUse;

use super::Executor;
use crate::delivery::{self, FileAccess, Purpose};
use crate::error::Error;
use crate::record_key::record_key;

impl Executor {
    /// What the token of a task gives access to for this purpose, or `None` if it is wrong, or its task does not exist or has
    /// ended.
    ///
    /// # Errors
    /// [`Error::OutOfSync`], or a failure of Kubernetes.
    pub async fn file_access(&self, token: &str, purpose: Purpose) -> Result<Option<FileAccess>, Error> {
        self.health.check()?;
        delivery::find_access(&self.client, &self.cache, token, purpose).await
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
