//! Stores the files of users: contents by their hash, and manifests that name them.
//!
//! ```text
//! files/USER/contents/HASH     a content, at most 4 MiB
//! files/USER/sets/HASH         a manifest
//! files/USER/outputs/TASK      the hash of the manifest with the outputs of a task
//! ```
//!
//! A hash is no right: each user has a prefix of their own, and sees nothing else. A manifest is stored once all of its
//! contents are. They can still be lost, e.g., in a power cut; whoever needs them finds out which are missing.

mod outputs;
mod paths;
mod prune;
mod quota;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use files::{Content, ContentHash, Manifest, ManifestHash};
use futures::{StreamExt, TryStreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use object_store::PutPayload;
use object_store::path::Path;
use tempfile::TempDir;
use tokio::sync::Semaphore;

use crate::archive::Archive;
use crate::error::Error;
use crate::location::Location;
use crate::space::Limits;
use crate::store::{Store, written_at};

pub use self::prune::FilesInUse;

use self::paths::UserPrefix;
use self::quota::{Usage, counted};

/// When contents are written again, and file sets, because they are used again. Well before they would be deleted.
const REFRESH_AFTER: SignedDuration = SignedDuration::from_hours(12);
const TOUCH_AFTER: SignedDuration = SignedDuration::from_hours(1);

/// Stored files met the limits when they were uploaded, and tasks submitted then still need them.
const STORED: files::Limits = files::Limits::NONE;

/// How many contents are read or written concurrently.
const CONCURRENT_CALLS: usize = 16;

/// What all users together may store in the memory of the process.
const MEMORY_BYTES: u64 = 256 << 20;

/// How many manifests are read at once: each takes up to 16 MiB of text, some more when it is parsed, and much of a
/// processor.
const CONCURRENT_MANIFESTS: usize = 2;

/// The files of users. A clone is the same store.
#[derive(Debug, Clone)]
pub struct FileStore {
    store: Store,
    /// The archive that the files are in, if they are in one.
    archive: Option<Archive>,
    limits: files::Limits,
    usage: Arc<Mutex<Usage>>,
    reading: Arc<Semaphore>,
    has_memory_only: bool,
    /// Deleted with the store, if it is for this process only.
    _temporary: Option<Arc<TempDir>>,
}

/// What a user has stored.
#[derive(Debug, Default)]
struct Stored {
    /// The sizes of the contents, and when they were written.
    contents: HashMap<ContentHash, (u64, Timestamp)>,
    sets: HashSet<ManifestHash>,
}

impl FileStore {
    /// Opens a store of its own, apart from any archive.
    ///
    /// # Errors
    /// The location cannot be used.
    pub fn open(location: &Location, limits: files::Limits, max_user_bytes: u64) -> Result<Self, Error> {
        let store = Store::open(location, Limits::default())?;
        Ok(Self::new(store, limits, max_user_bytes))
    }

    /// Opens a store that lives as long as this process.
    ///
    /// # Errors
    /// There is no directory for temporary files.
    pub fn temporary(limits: files::Limits, max_user_bytes: u64) -> Result<Self, Error> {
        let unusable = |source| Error::Directory {
            path: std::env::temp_dir(),
            source,
        };
        let mut builder = tempfile::Builder::new();
        // The files of users are nobody else's business.
        builder
            .prefix("k8s-cli-files-")
            .permissions(std::fs::Permissions::from_mode(0o700));
        let directory = builder.tempdir().map_err(unusable)?;
        let store = Self::open(&Location::folder(directory.path().to_owned()), limits, max_user_bytes)?;
        Ok(Self {
            _temporary: Some(Arc::new(directory)),
            ..store
        })
    }

    /// Opens a store in the memory of this process, which has little room.
    ///
    /// # Errors
    /// Currently never fails.
    pub fn in_memory(limits: files::Limits) -> Result<Self, Error> {
        Ok(Self {
            has_memory_only: true,
            ..Self::open(&Location::memory(), limits, MEMORY_BYTES / 4)?
        })
    }

    /// The files in an archive.
    #[must_use]
    pub fn in_archive(archive: &Archive, limits: files::Limits, max_user_bytes: u64) -> Self {
        Self {
            archive: Some(archive.clone()),
            ..Self::new(archive.store().clone(), limits, max_user_bytes)
        }
    }

    fn new(store: Store, limits: files::Limits, max_user_bytes: u64) -> Self {
        Self {
            store,
            archive: None,
            limits,
            usage: Arc::new(Mutex::new(Usage::new(max_user_bytes, u64::MAX))),
            reading: Arc::new(Semaphore::new(CONCURRENT_MANIFESTS)),
            has_memory_only: false,
            _temporary: None,
        }
    }

    /// Limits what all users together may store.
    #[must_use]
    pub fn with_max_bytes(self, max_bytes: u64) -> Self {
        let limit = if self.has_memory_only { MEMORY_BYTES } else { u64::MAX };
        self.usage().limit_total(max_bytes.min(limit));
        self
    }

    /// The limits of a file set.
    #[must_use]
    pub fn limits(&self) -> &files::Limits {
        &self.limits
    }

    /// Stores a manifest, and returns the contents that are missing. The file set is complete if there are none.
    ///
    /// # Errors
    /// [`Error::TooManyFiles`] if the user would have more than the limit, [`Error::FilesFull`] if all users would, or a
    /// failure of the store.
    pub async fn put_manifest(&self, user: &str, manifest: &Manifest) -> Result<Vec<ContentHash>, Error> {
        let encoded = Bytes::from(manifest.encode());
        let hash = ManifestHash::of(&encoded);
        self.put_encoded_manifest(user, manifest, (hash, encoded)).await
    }

    /// Does the same for a manifest of which the caller has the hash and the bytes, which take long to compute.
    ///
    /// # Errors
    /// Those of [`Self::put_manifest`].
    pub async fn put_encoded_manifest(
        &self,
        user: &str,
        manifest: &Manifest,
        (hash, encoded): (ManifestHash, Bytes),
    ) -> Result<Vec<ContentHash>, Error> {
        let prefix = UserPrefix::of(user);
        let stored = self.stored(&prefix).await?;
        let (mut missing, mut old) = (BTreeMap::new(), Vec::new());
        // The clock of the store may differ by minutes, which does not matter for hours.
        let refresh_before = Timestamp::now() - REFRESH_AFTER;
        for (hash, length) in manifest.contents() {
            match stored.contents.get(&hash) {
                Some((size, written)) if *size == u64::from(length) => {
                    old.extend(Content::new(hash, length).filter(|_| *written < refresh_before));
                }
                // A content that a power cut has shortened is missing, too.
                _ => drop(missing.insert(hash, length)),
            }
        }
        missing.extend(self.refresh(user, old).await?);
        let is_new = !stored.sets.contains(&hash);
        let own = if is_new { counted(encoded.len() as u64) } else { 0 };
        if missing.is_empty() {
            self.check_disk().await?;
            self.usage().add(&prefix, own)?;
            self.store.put(&prefix.set(&hash), PutPayload::from(encoded)).await?;
        } else {
            let more = missing.values().map(|length| counted(u64::from(*length))).sum::<u64>();
            self.usage().check(&prefix, more.saturating_add(own))?;
        }
        Ok(missing.into_keys().collect())
    }

    /// Writes contents again, so that [`Self::prune`] keeps them while they are about to be used. Returns those that are
    /// damaged or gone.
    async fn refresh(&self, user: &str, contents: Vec<Content>) -> Result<Vec<(ContentHash, u32)>, Error> {
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

    /// Notes that a file set is in use.
    pub async fn touch(&self, user: &str, set: &ManifestHash) -> Result<(), Error> {
        let path = UserPrefix::of(user).set(set);
        self.write_again(&path, Timestamp::now() - TOUCH_AFTER).await
    }

    /// Writes an object again if it was last written before this time.
    async fn write_again(&self, path: &Path, before: Timestamp) -> Result<(), Error> {
        let written = self.store.written_at(path).await?;
        if written.is_some_and(|written| written < before)
            && let Some(content) = self.store.get(path).await?
        {
            self.store.put(path, PutPayload::from(content)).await?;
        }
        Ok(())
    }

    /// Whether all contents of a file set are there, as far as a list of them shows.
    pub async fn is_complete(&self, user: &str, manifest: &Manifest) -> Result<bool, Error> {
        let stored = self.stored(&UserPrefix::of(user)).await?.contents;
        let is_there = |(hash, length): (ContentHash, u32)| {
            let size = stored.get(&hash).map(|(size, _)| *size);
            size == Some(u64::from(length))
        };
        Ok(manifest.contents().into_iter().all(is_there))
    }

    /// Stores contents under their hashes. They may be there already.
    ///
    /// # Errors
    /// [`Error::Full`] if there is no room, those of [`Self::put_manifest`], or a failure of the store.
    pub async fn put_contents(&self, user: &str, contents: Vec<Bytes>) -> Result<usize, Error> {
        self.check_disk().await?;
        let prefix = &UserPrefix::of(user);
        if !self.usage().knows(prefix) {
            self.stored(prefix).await?;
        }
        // Contents that are there already count twice until the user is listed again, with the next manifest.
        let more = contents.iter().map(|content| counted(content.len() as u64)).sum();
        self.usage().add(prefix, more)?;
        // Megabytes take milliseconds, in which this thread would answer nobody else.
        let hash = move || contents.into_iter().map(|content| (ContentHash::of(&content), content));
        let hashed = tokio::task::spawn_blocking(move || hash().collect::<Vec<_>>()).await;
        let hashed = hashed.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        let count = hashed.len();
        stream::iter(hashed)
            .map(Ok)
            .try_for_each_concurrent(CONCURRENT_CALLS, |(hash, content)| async move {
                self.store.put(&prefix.content(&hash), PutPayload::from(content)).await
            })
            .await?;
        Ok(count)
    }

    /// Files must leave room on the disk for the logs of all.
    async fn check_disk(&self) -> Result<(), Error> {
        let space = Arc::clone(&self.store.space);
        // On a mount that hangs, only this request waits.
        let has_room = tokio::task::spawn_blocking(move || space.has_disk_for_files()).await;
        match has_room {
            Ok(false) => Err(Error::Full),
            Ok(true) | Err(_) => Ok(()),
        }
    }

    /// The manifest of a complete file set of this user.
    pub async fn manifest(&self, user: &str, hash: &ManifestHash) -> Result<Option<Manifest>, Error> {
        // The semaphore is never closed.
        let _permit = self.reading.acquire().await;
        let Some(text) = self.read_manifest(user, hash).await? else {
            return Ok(None);
        };
        let parsed = tokio::task::spawn_blocking(move || Manifest::parse(&text, &STORED)).await;
        let invalid = |reason: String| Error::Invalid {
            path: UserPrefix::of(user).set(hash).to_string(),
            reason,
        };
        match parsed {
            Ok(Ok(manifest)) => Ok(Some(manifest)),
            Ok(Err(error)) => Err(invalid(error.to_string())),
            Err(error) => Err(invalid(error.to_string())),
        }
    }

    /// The bytes of the manifest of a complete file set of this user.
    pub async fn encoded_manifest(&self, user: &str, hash: &ManifestHash) -> Result<Option<Bytes>, Error> {
        let _permit = self.reading.acquire().await;
        self.read_manifest(user, hash).await
    }

    async fn read_manifest(&self, user: &str, hash: &ManifestHash) -> Result<Option<Bytes>, Error> {
        let Some(text) = self.store.get(&UserPrefix::of(user).set(hash)).await? else {
            return Ok(None);
        };
        let expected = *hash;
        // Hashing megabytes must not hold up other requests. A manifest that is damaged is missing: it is sent again.
        let checked = tokio::task::spawn_blocking(move || (ManifestHash::of(&text) == expected).then_some(text));
        Ok(checked.await.unwrap_or_default())
    }

    /// Reads contents of this user, and checks their hashes. Returns `None` if one of them is missing.
    pub async fn contents(
        &self,
        user: &str,
        contents: impl IntoIterator<Item = Content>,
    ) -> Result<Option<HashMap<ContentHash, Bytes>>, Error> {
        let prefix = &UserPrefix::of(user);
        let reads = contents.into_iter().map(|content| async move {
            let path = prefix.content(content.hash());
            let Some(bytes) = self.store.get(&path).await? else {
                return Ok(None);
            };
            if content.is(&bytes) {
                return Ok::<_, Error>(Some((*content.hash(), bytes)));
            }
            // It looks complete in a list, so that only its absence makes a client send it again.
            tracing::warn!(event = "damaged_content", %path, "content of a file is damaged and was deleted");
            self.store.delete(&path, vec![path.clone()]).await?;
            Ok(None)
        });
        let read: Vec<Option<(ContentHash, Bytes)>> = stream::iter(reads)
            .buffer_unordered(CONCURRENT_CALLS)
            .try_collect()
            .await?;
        Ok(read.into_iter().collect())
    }

    fn usage(&self) -> MutexGuard<'_, Usage> {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn stored(&self, prefix: &UserPrefix) -> Result<Stored, Error> {
        let (mut stored, mut bytes) = (Stored::default(), 0_u64);
        let before = self.usage().mark(prefix);
        self.store
            .visit(&prefix.all(), |object| {
                match paths::parse(&object.location) {
                    Some((_, paths::Stored::Content(hash))) => {
                        stored.contents.insert(hash, (object.size, written_at(object)));
                    }
                    Some((_, paths::Stored::Set(hash))) => drop(stored.sets.insert(hash)),
                    Some((_, paths::Stored::Outputs(_))) => {}
                    None => return,
                }
                bytes = bytes.saturating_add(counted(object.size));
            })
            .await?;
        self.usage().listed(prefix, bytes, before);
        Ok(stored)
    }
}

#[cfg(test)]
mod tests;
