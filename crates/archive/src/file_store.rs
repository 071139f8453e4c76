//! Stores the files of users: contents by their hash, and manifests that name them.
//!
//! ```text
//! files/USER/contents/HASH     a content, at most 4 MiB
//! files/USER/sets/HASH         a manifest
//! ```
//!
//! A hash is no right: each user has a prefix of their own, and sees nothing else. A manifest is stored once all of its
//! contents are. They can still be lost, e.g., in a power cut; whoever needs them finds out which are missing.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use files::{Content, ContentHash, Manifest, ManifestHash};
use futures::{StreamExt, TryStreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use object_store::PutPayload;
use object_store::path::Path;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::archive::Archive;
use crate::error::Error;
use crate::location::Location;
use crate::space::Limits;
use crate::store::{Store, written_at};

/// The prefix of all files.
pub(crate) const FILES: &str = "files";

/// How long what nobody uses is kept.
const KEPT: SignedDuration = SignedDuration::from_hours(24);

/// When contents are written again, and file sets, because they are used again. Well before they would be deleted.
const REFRESH_AFTER: SignedDuration = SignedDuration::from_hours(12);
const TOUCH_AFTER: SignedDuration = SignedDuration::from_hours(1);

/// How many contents are read or written concurrently.
const CONCURRENT_CALLS: usize = 16;

/// The files of users. A clone is the same store.
#[derive(Debug, Clone)]
pub struct FileStore {
    store: Store,
    limits: files::Limits,
    /// The most bytes that one user may store.
    max_user_bytes: u64,
    /// How much each user has stored, as far as this server knows.
    used: Arc<Mutex<HashMap<String, u64>>>,
    /// Deleted with the store, if it is for this process only.
    _temporary: Option<Arc<TempDir>>,
}

/// What a user has stored.
#[derive(Debug, Default)]
struct Stored {
    /// The sizes of the contents, and when they were written.
    contents: HashMap<ContentHash, (u64, Timestamp)>,
    bytes: u64,
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
        let directory = TempDir::new().map_err(unusable)?;
        let store = Self::open(&Location::folder(directory.path().to_owned()), limits, max_user_bytes)?;
        Ok(Self {
            _temporary: Some(Arc::new(directory)),
            ..store
        })
    }

    /// The files in an archive.
    #[must_use]
    pub fn in_archive(archive: &Archive, limits: files::Limits, max_user_bytes: u64) -> Self {
        Self::new(archive.store().clone(), limits, max_user_bytes)
    }

    fn new(store: Store, limits: files::Limits, max_user_bytes: u64) -> Self {
        Self {
            store,
            limits,
            max_user_bytes,
            used: Arc::default(),
            _temporary: None,
        }
    }

    /// The limits of a file set.
    #[must_use]
    pub fn limits(&self) -> &files::Limits {
        &self.limits
    }

    /// Stores a manifest, and returns the contents that are missing. The file set is complete if there are none.
    ///
    /// # Errors
    /// [`Error::TooManyFiles`] if the user would have more than the limit, or a failure of the store.
    pub async fn put_manifest(&self, user: &str, manifest: &Manifest) -> Result<Vec<ContentHash>, Error> {
        let stored = self.stored(user).await?;
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
        let more: u64 = missing.values().map(|length| u64::from(*length)).sum();
        if !missing.is_empty() {
            self.check_room(stored.bytes, more)?;
        } else {
            let path = set_path(user, &manifest.hash());
            self.store.put(&path, PutPayload::from(manifest.encode())).await?;
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
                        self.store
                            .put(&content_path(user, &hash), PutPayload::from(bytes))
                            .await?;
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
    pub async fn touch(&self, user: &str, manifest: &Manifest) -> Result<(), Error> {
        let path = set_path(user, &manifest.hash());
        let written = self.store.written_at(&path).await?;
        if written.is_some_and(|written| written < Timestamp::now() - TOUCH_AFTER) {
            self.store.put(&path, PutPayload::from(manifest.encode())).await?;
        }
        Ok(())
    }

    /// Deletes file sets that nobody has used for a day, and contents that no other file set has and that were not
    /// written for a day. Returns how many contents were deleted.
    pub async fn prune(&self, now: Timestamp) -> Result<usize, Error> {
        let limit = now - KEPT;
        let all = Path::from(FILES);
        let mut old: HashMap<(String, String), Path> = HashMap::new();
        // Contents first: the sets that are listed next name all that were in use then, and what is put into use later
        // has been written again.
        self.store
            .visit(&all, |object| {
                if let Some((user, "contents", hash)) = parts(&object.location)
                    && written_at(object) < limit
                {
                    old.insert((user.to_owned(), hash.to_owned()), object.location.clone());
                }
            })
            .await?;
        let (mut unused, mut used) = (Vec::new(), Vec::new());
        self.store
            .visit(&all, |object| {
                if let Some((user, "sets", _)) = parts(&object.location) {
                    match written_at(object) < limit {
                        true => unused.push(object.location.clone()),
                        false => used.push((user.to_owned(), object.location.clone())),
                    }
                }
            })
            .await?;
        for (user, path) in used {
            let text = self.store.get(&path).await?.unwrap_or_default();
            // One that cannot be read names nothing; a task cannot be submitted with it, either.
            let manifest = Manifest::parse(&text, &self.limits).ok();
            for hash in manifest.iter().flat_map(|manifest| manifest.contents().into_keys()) {
                old.remove(&(user.clone(), hash.to_string()));
            }
        }
        self.store.delete(&all, unused).await?;
        let count = old.len();
        self.store.delete(&all, old.into_values().collect()).await?;
        // The next manifest of a user counts again.
        self.used().clear();
        Ok(count)
    }

    /// Stores contents under their hashes. They may be there already.
    ///
    /// # Errors
    /// [`Error::Full`] if there is no room, [`Error::TooManyFiles`], or a failure of the store.
    pub async fn put_contents(&self, user: &str, contents: Vec<Bytes>) -> Result<usize, Error> {
        let space = Arc::clone(&self.store.space);
        // On a mount that hangs, only this request waits.
        let _ = tokio::task::spawn_blocking(move || space.check_disk()).await;
        if !self.store.space.has_room() {
            return Err(Error::Full);
        }
        self.reserve(user, contents.iter().map(|content| content.len() as u64).sum())
            .await?;
        let count = contents.len();
        stream::iter(contents)
            .map(Ok)
            .try_for_each_concurrent(CONCURRENT_CALLS, |content| async move {
                let path = content_path(user, &ContentHash::of(&content));
                self.store.put(&path, PutPayload::from(content)).await
            })
            .await?;
        Ok(count)
    }

    /// The manifest of a complete file set of this user.
    pub async fn manifest(&self, user: &str, hash: &ManifestHash) -> Result<Option<Manifest>, Error> {
        let path = set_path(user, hash);
        let Some(text) = self.store.get(&path).await? else {
            return Ok(None);
        };
        let invalid = |reason: String| Error::Invalid {
            path: path.to_string(),
            reason,
        };
        if ManifestHash::of(&text) != *hash {
            return Err(invalid("its content has another hash".to_owned()));
        }
        let parsed = Manifest::parse(&text, &self.limits);
        parsed.map(Some).map_err(|error| invalid(error.to_string()))
    }

    /// Reads contents of this user, and checks their hashes. Returns `None` if one of them is missing.
    pub async fn contents(
        &self,
        user: &str,
        contents: impl IntoIterator<Item = Content>,
    ) -> Result<Option<HashMap<ContentHash, Bytes>>, Error> {
        let reads = contents.into_iter().map(|content| async move {
            let path = content_path(user, content.hash());
            let found = self.store.get(&path).await?;
            // A content that is damaged is missing: it is sent again.
            let found = found.filter(|bytes| content.is(bytes));
            Ok::<_, Error>(found.map(|bytes| (*content.hash(), bytes)))
        });
        let read: Vec<Option<(ContentHash, Bytes)>> = stream::iter(reads)
            .buffer_unordered(CONCURRENT_CALLS)
            .try_collect()
            .await?;
        Ok(read.into_iter().collect())
    }

    /// Counts bytes that are about to be stored. Contents that are there already count twice until the user is listed
    /// again, with the next manifest.
    async fn reserve(&self, user: &str, more: u64) -> Result<(), Error> {
        let is_known = self.used().contains_key(user);
        if !is_known {
            self.stored(user).await?;
        }
        let mut used = self.used();
        let stored = used.entry(user.to_owned()).or_default();
        self.check_room(*stored, more)?;
        *stored += more;
        Ok(())
    }

    /// Whether a user who has stored so many bytes may store more.
    fn check_room(&self, stored: u64, more: u64) -> Result<(), Error> {
        let limit = self.max_user_bytes;
        if stored.saturating_add(more) > limit {
            return Err(Error::TooManyFiles { stored, more, limit });
        }
        Ok(())
    }

    fn used(&self) -> MutexGuard<'_, HashMap<String, u64>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn stored(&self, user: &str) -> Result<Stored, Error> {
        let prefix = Path::from(format!("{}/contents", user_prefix(user)));
        let mut stored = Stored::default();
        self.store
            .visit(&prefix, |object| {
                let hash = object.location.filename().and_then(|name| name.parse().ok());
                stored.bytes += object.size;
                stored
                    .contents
                    .extend(hash.map(|hash| (hash, (object.size, written_at(object)))));
            })
            .await?;
        self.used().insert(user.to_owned(), stored.bytes);
        Ok(stored)
    }
}

/// The user's prefix, the kind, and the hash in the path of an object.
fn parts(path: &Path) -> Option<(&str, &str, &str)> {
    let mut parts = path.as_ref().strip_prefix(FILES)?.strip_prefix('/')?.splitn(3, '/');
    Some((parts.next()?, parts.next()?, parts.next()?))
}

/// The prefix of a user. A name may have characters that a path must not have.
fn user_prefix(user: &str) -> String {
    format!("{FILES}/{:x}", Sha256::digest(user))
}

fn set_path(user: &str, hash: &ManifestHash) -> Path {
    Path::from(format!("{}/sets/{hash}", user_prefix(user)))
}

fn content_path(user: &str, hash: &ContentHash) -> Path {
    Path::from(format!("{}/contents/{hash}", user_prefix(user)))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use files::{Content, Entry, EntryKind, EntryPath, Manifest, Mode};
    use jiff::{SignedDuration, Timestamp};

    use super::FileStore;
    use crate::error::Error;
    use crate::location::Location;

    const LIMITS: files::Limits = files::Limits {
        max_entries: 100,
        max_total_bytes: 1 << 20,
        max_manifest_bytes: 1 << 16,
    };

    fn manifest(contents: &[&[u8]]) -> Manifest {
        let files = contents.iter().enumerate().map(|(number, bytes)| Entry {
            path: EntryPath::new(format!("{number:04}")).unwrap(),
            kind: EntryKind::File {
                mode: Mode::new(0o644),
                contents: vec![Content::of(bytes).unwrap()],
            },
        });
        Manifest::new(files.collect()).unwrap()
    }

    #[tokio::test]
    async fn a_file_set_is_there_once_all_of_its_contents_are() {
        let store = FileStore::open(&Location::memory(), LIMITS, 1 << 20).unwrap();
        let manifest = manifest(&[b"one", b"two", b"one"]);
        let missing = store.put_manifest("alice", &manifest).await.unwrap();
        assert_eq!(missing.len(), 2);
        assert!(store.manifest("alice", &manifest.hash()).await.unwrap().is_none());
        store.put_contents("alice", vec![Bytes::from("one")]).await.unwrap();
        assert_eq!(store.put_manifest("alice", &manifest).await.unwrap().len(), 1);
        store.put_contents("alice", vec![Bytes::from("two")]).await.unwrap();
        assert!(store.put_manifest("alice", &manifest).await.unwrap().is_empty());
        assert_eq!(
            store.manifest("alice", &manifest.hash()).await.unwrap(),
            Some(manifest.clone())
        );
        let contents = [b"one", b"two"].map(|bytes| Content::of(bytes).unwrap());
        assert_eq!(store.contents("alice", contents).await.unwrap().unwrap().len(), 2);
    }

    #[tokio::test]
    async fn the_files_of_another_user_are_not_there() {
        let store = FileStore::open(&Location::memory(), LIMITS, 1 << 20).unwrap();
        let manifest = manifest(&[b"one"]);
        store.put_contents("alice", vec![Bytes::from("one")]).await.unwrap();
        assert!(store.put_manifest("alice", &manifest).await.unwrap().is_empty());
        assert_eq!(store.manifest("bob", &manifest.hash()).await.unwrap(), None);
        assert_eq!(store.put_manifest("bob", &manifest).await.unwrap().len(), 1);
        let content = Content::of(b"one").unwrap();
        assert!(store.contents("bob", [content]).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_user_cannot_store_more_than_the_limit() {
        let store = FileStore::open(&Location::memory(), LIMITS, 5).unwrap();
        let error = store
            .put_manifest("alice", &manifest(&[b"three", b"x"]))
            .await
            .unwrap_err();
        assert!(matches!(error, Error::TooManyFiles { more: 6, .. }), "{error}");
        assert_eq!(
            store.put_manifest("alice", &manifest(&[b"five5"])).await.unwrap().len(),
            1
        );
    }

    #[tokio::test]
    async fn what_nobody_has_used_for_a_day_is_deleted() {
        let store = FileStore::open(&Location::memory(), LIMITS, 1 << 20).unwrap();
        let manifest = manifest(&[b"one"]);
        let contents = ["one", "two"].map(Bytes::from).to_vec();
        store.put_contents("alice", contents).await.unwrap();
        assert!(store.put_manifest("alice", &manifest).await.unwrap().is_empty());
        let after = |hours| Timestamp::now() + SignedDuration::from_hours(hours);
        assert_eq!(store.prune(after(23)).await.unwrap(), 0);
        assert_eq!(store.prune(after(25)).await.unwrap(), 2);
        assert!(store.manifest("alice", &manifest.hash()).await.unwrap().is_none());
        assert_eq!(store.put_manifest("alice", &manifest).await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn the_contents_of_a_file_set_in_use_stay() {
        let folder = tempfile::tempdir().unwrap();
        let store = FileStore::open(&Location::folder(folder.path().to_owned()), LIMITS, 1 << 20).unwrap();
        let (manifest, content) = (manifest(&[b"one"]), Content::of(b"one").unwrap());
        store
            .put_contents("alice", ["one", "two"].map(Bytes::from).to_vec())
            .await
            .unwrap();
        assert!(store.put_manifest("alice", &manifest).await.unwrap().is_empty());
        // All contents are old, and the file set is new.
        let path = |bytes: &[u8]| {
            let content = Content::of(bytes).unwrap();
            folder
                .path()
                .join(super::content_path("alice", content.hash()).as_ref())
        };
        let old = std::time::SystemTime::now() - std::time::Duration::from_secs(48 * 3600);
        for bytes in [&b"one"[..], b"two"] {
            let file = std::fs::File::options().write(true).open(path(bytes)).unwrap();
            file.set_modified(old).unwrap();
        }
        assert_eq!(store.prune(Timestamp::now()).await.unwrap(), 1);
        assert!(store.contents("alice", [content]).await.unwrap().is_some());
        // The next use makes it new.
        assert!(store.put_manifest("alice", &manifest).await.unwrap().is_empty());
        let modified = path(b"one").metadata().unwrap().modified().unwrap();
        assert!(modified > old + std::time::Duration::from_secs(3600));
    }
}
