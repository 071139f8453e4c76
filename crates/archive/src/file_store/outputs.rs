//! Remembers which file set has the outputs of a task.

use bytes::Bytes;
use files::ManifestHash;
use object_store::PutPayload;

use super::FileStore;
use super::paths::{Stored, UserPrefix};
use super::quota::{Objects, counted};
use crate::error::Error;
use crate::key::RecordKey;

impl FileStore {
    /// Notes that a stored file set has the outputs of a task, instead of an earlier one.
    ///
    /// # Errors
    /// Those of [`Self::put_contents`].
    pub async fn put_outputs(&self, user: &str, task: &RecordKey, set: &ManifestHash) -> Result<(), Error> {
        let content = Bytes::from(set.to_string());
        self.check_disk().await?;
        let prefix = UserPrefix::of(user);
        let own = Objects::from([(Stored::Outputs(task.clone()), counted(content.len() as u64))]);
        let _writing = self.begin_writing(&prefix, &own).await?;
        self.store.put(&prefix.outputs(task), PutPayload::from(content)).await
    }

    /// Forgets the outputs of a task of this user. Their contents are deleted as others that nobody uses.
    pub async fn delete_outputs(&self, user: &str, task: &RecordKey) -> Result<(), Error> {
        let path = UserPrefix::of(user).outputs(task);
        self.store.delete(&path, vec![path.clone()]).await
    }

    /// The file set with the outputs of a task of this user.
    pub async fn outputs(&self, user: &str, task: &RecordKey) -> Result<Option<ManifestHash>, Error> {
        let path = UserPrefix::of(user).outputs(task);
        let Some(content) = self.store.get(&path).await? else {
            return Ok(None);
        };
        let text = std::str::from_utf8(&content).ok();
        let invalid = || Error::Invalid {
            path: path.to_string(),
            reason: "it is not the hash of a manifest".to_owned(),
        };
        text.and_then(|text| text.parse().ok()).ok_or_else(invalid).map(Some)
    }
}
