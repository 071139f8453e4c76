//! Stores the files of users: contents by their hash, and manifests that name them.
//!
//! ```text
//! files/USER/contents/HASH     a content, at most 4 MiB
//! files/USER/sets/HASH         a manifest
//! files/USER/outputs/TASK      the hash of the manifest with the outputs of a task
//! ```
//!
//! A hash is no right: each user has a prefix of their own, and sees nothing else. A manifest is stored once all of its
//! contents are. They can still be lost, e.g., in a power cut; a submit finds out which are missing.

mod outputs;
mod paths;
mod prune;
mod quota;
mod refresh;
mod temporary;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use files::{Content, ContentHash, Manifest, ManifestHash};
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use object_store::PutPayload;
use tokio::sync::Semaphore;

use crate::archive::Archive;
use crate::error::Error;
use crate::key::RecordKey;
use crate::location::Location;
use crate::space::Limits;
use crate::store::{Store, written_at};

pub use self::prune::FilesInUse;

use self::paths::UserPrefix;
use self::quota::{Objects, Usage, Writing, counted};
use self::refresh::REFRESH_AFTER;
use self::temporary::Temporary;

/// Stored files met the limits when they were uploaded, and tasks submitted then still need them.
const STORED: files::Limits = files::Limits::NONE;

/// How many contents are read or written concurrently.
const CONCURRENT_CALLS: usize = 16;

/// Up to how many contents are looked up one by one. A list of all that a user has stored may have a hundred pages.
const MAX_HEADS: usize = 64;

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
    _temporary: Option<Arc<Temporary>>,
}

/// What a user has stored.
#[derive(Debug, Default)]
struct Stored {
    /// The sizes of the contents, and when they were written.
    contents: HashMap<ContentHash, (u64, Timestamp)>,
    sets: HashSet<ManifestHash>,
    outputs: HashSet<RecordKey>,
}

impl Stored {
    fn has(&self, object: &paths::Stored) -> bool {
        match object {
            paths::Stored::Content(hash) => self.contents.contains_key(hash),
            paths::Stored::Set(hash) => self.sets.contains(hash),
            paths::Stored::Outputs(task) => self.outputs.contains(task),
        }
    }
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
        let directory = Temporary::make().map_err(unusable)?;
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
        let refresh_before = Timestamp::now() - REFRESH_AFTER;
        let (mut missing, old) = stored.missing_and_old(manifest, refresh_before);
        missing.extend(self.refresh(user, old).await?);
        let own = Objects::from([(paths::Stored::Set(hash), counted(encoded.len() as u64))]);
        if missing.is_empty() {
            self.check_disk().await?;
            let _writing = Writing::begin(&self.usage, &prefix, &own, |object| stored.has(object))?;
            self.store.put(&prefix.set(&hash), PutPayload::from(encoded)).await?;
        } else {
            let missing = missing.iter().map(|(hash, length)| {
                let bytes = counted(u64::from(*length));
                (paths::Stored::Content(*hash), bytes)
            });
            // A content that is damaged is listed, and has been deleted.
            let has_set = |object: &paths::Stored| matches!(object, paths::Stored::Set(_)) && stored.has(object);
            self.usage().check(&prefix, &missing.chain(own).collect(), has_set)?;
        }
        Ok(missing.into_keys().collect())
    }

    /// Whether all contents of a file set are there, as far as their sizes show.
    pub async fn is_complete(&self, user: &str, manifest: &Manifest) -> Result<bool, Error> {
        let prefix = &UserPrefix::of(user);
        let contents = manifest.contents();
        if contents.len() > MAX_HEADS {
            let (missing, _) = self.stored(prefix).await?.missing_and_old(manifest, Timestamp::MIN);
            return Ok(missing.is_empty());
        }
        let heads = contents.into_iter().map(|(hash, length)| async move {
            let found = self.store.head(&prefix.content(&hash)).await?;
            Ok::<_, Error>(found.is_some_and(|found| found.size == u64::from(length)))
        });
        let found = stream::iter(heads).buffer_unordered(CONCURRENT_CALLS);
        found.try_all(async |is_there| is_there).await
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
        // Megabytes take milliseconds, in which this thread would answer nobody else.
        let hash = move || contents.into_iter().map(|content| (ContentHash::of(&content), content));
        let hashed = tokio::task::spawn_blocking(move || hash().collect::<Vec<_>>()).await;
        let hashed = hashed.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        let objects = hashed
            .iter()
            .map(|(hash, content)| (paths::Stored::Content(*hash), counted(content.len() as u64)));
        let _writing = self.begin_writing(prefix, &objects.collect()).await?;
        let count = hashed.len();
        stream::iter(hashed)
            .map(Ok)
            .try_for_each_concurrent(CONCURRENT_CALLS, |(hash, content)| async move {
                self.store.put(&prefix.content(&hash), PutPayload::from(content)).await
            })
            .await?;
        Ok(count)
    }

    /// Counts objects that are about to be written. What is there already, e.g., from another upload of the same folder, is
    /// only found by a list, which is made when there seems to be no room.
    async fn begin_writing(&self, prefix: &UserPrefix, objects: &Objects) -> Result<Writing, Error> {
        if let Ok(writing) = Writing::begin(&self.usage, prefix, objects, |_| false) {
            return Ok(writing);
        }
        let stored = self.stored(prefix).await?;
        Writing::begin(&self.usage, prefix, objects, |object| stored.has(object))
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
        let list = self.usage().begin_list();
        self.store
            .visit(&prefix.all(), |object| {
                match paths::parse(&object.location) {
                    Some((_, paths::Stored::Content(hash))) => {
                        stored.contents.insert(hash, (object.size, written_at(object)));
                    }
                    Some((_, paths::Stored::Set(hash))) => drop(stored.sets.insert(hash)),
                    Some((_, paths::Stored::Outputs(task))) => drop(stored.outputs.insert(task)),
                    None => return,
                }
                bytes = bytes.saturating_add(counted(object.size));
            })
            .await?;
        self.usage().listed(prefix, bytes, list, |object| stored.has(object));
        Ok(stored)
    }
}

#[cfg(test)]
mod tests;
