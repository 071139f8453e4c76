//! Which files the nodes of tasks may fetch from the server.

use std::collections::HashSet;

use files::ManifestHash;

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

    /// The file sets that the nodes of tasks may still fetch, each with its user.
    ///
    /// # Errors
    /// [`Error::OutOfSync`]: without the tasks, nobody knows which files are in use.
    pub fn files_in_use(&self) -> Result<HashSet<(String, ManifestHash)>, Error> {
        self.health.check()?;
        Ok(delivery::in_use(&self.cache))
    }
}
