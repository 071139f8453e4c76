//! Writes again what is used again, so that it is not deleted.

use std::collections::BTreeMap;

use files::{Content, ContentHash, Manifest, ManifestHash};
use futures::{StreamExt, TryStreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use object_store::PutPayload;
use object_store::path::Path;

use super::paths::UserPrefix;
use super::{CONCURRENT_CALLS, FileStore, STORED, Stored};
use crate::error::Error;

/// When contents are written again, and file sets, because they are used again. Well before they would be deleted.
pub(super) const REFRESH_AFTER: SignedDuration = SignedDuration::from_hours(12);
pub(super) const TOUCH_AFTER: SignedDuration = SignedDuration::from_hours(1);

impl Stored {
    /// The contents of a file set that are missing, with their lengths, and those that were written before this time.
    pub(super) fn missing_and_old(
        &self,
        manifest: &Manifest,
        before: Timestamp,
    ) -> (BTreeMap<ContentHash, u32>, Vec<Content>) {
        let (mut missing, mut old) = (BTreeMap::new(), Vec::new());
        for (hash, length) in manifest.contents() {
            match self.contents.get(&hash) {
                // The clock of the store may differ by minutes, which does not matter for hours.
                Some((size, written)) if *size == u64::from(length) => {
                    old.extend(Content::new(hash, length).filter(|_| *written < before));
                }
                // A content that a power cut has shortened is missing, too.
                _ => drop(missing.insert(hash, length)),
            }
        }
        (missing, old)
    }
}

impl FileStore {
    /// Notes that a file set is in use. Its contents come first: a server that sees that the set is new need not look at them, and
    /// [`Self::prune`] may have listed both as old.
    pub async fn touch(&self, user: &str, set: &ManifestHash) -> Result<(), Error> {
        let (prefix, now) = (UserPrefix::of(user), Timestamp::now());
        let path = prefix.set(set);
        let written = self.store.written_at(&path).await?;
        if written.is_none_or(|written| written >= now - TOUCH_AFTER) {
            return Ok(());
        }
        let Some(text) = self.encoded_manifest(user, set).await? else {
            return Ok(());
        };
        let parsed = text.clone();
        let parsed = tokio::task::spawn_blocking(move || Manifest::parse(&parsed, &STORED)).await;
        if let Ok(Ok(manifest)) = parsed {
            let (_, old) = self
                .stored(&prefix)
                .await?
                .missing_and_old(&manifest, now - REFRESH_AFTER);
            // Those that are damaged or gone are found when they are needed.
            self.refresh(user, old).await?;
        }
        self.store.put(&path, PutPayload::from(text)).await
    }

    /// Writes contents again, so that [`Self::prune`] keeps them while they are about to be used. Returns those that are
    /// damaged or gone.
    pub(super) async fn refresh(&self, user: &str, contents: Vec<Content>) -> Result<Vec<(ContentHash, u32)>, Error> {
        let refresh = |content: Content| async move {
            match self.contents(user, [content]).await? {
                Some(read) => {
                    for (hash, bytes) in read {
                        let path = UserPrefix::of(user).content(&hash);
                        self.store.put(&path, PutPayload::from(bytes)).await?;
                    }
                    Ok(None)
                }
                None => Ok::<_, Error>(Some((*content.hash(), content.length()))),
            }
        };
        let refreshed = stream::iter(contents).map(refresh).buffer_unordered(CONCURRENT_CALLS);
        let gone: Vec<Option<(ContentHash, u32)>> = refreshed.try_collect().await?;
        Ok(gone.into_iter().flatten().collect())
    }

    /// Writes an object again if it was last written before this time.
    pub(super) async fn write_again(&self, path: &Path, before: Timestamp) -> Result<(), Error> {
        let written = self.store.written_at(path).await?;
        if written.is_some_and(|written| written < before)
            && let Some(content) = self.store.get(path).await?
        {
            self.store.put(path, PutPayload::from(content)).await?;
        }
        Ok(())
    }
}
