//! Packs the file sets of a task.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use archive::FileStore;
use bytes::Bytes;
use files::{Content, ContentHash, HumanSize, Manifest, ManifestHash, Tar};
use sha2::{Digest, Sha256};
use task::definition::{FileMount, FileSetId, Target};
use task::{TaskDefinition, UserName};

use crate::error::Error;
use crate::settings::Settings;

/// The size of a part. A ConfigMap may have 1 MiB.
const PART_BYTES: usize = 1_000_000;

/// How many times the limit for packed files a file set may have: files that compress better are mostly a mistake, and all of
/// them are in memory while they are packed.
pub const MAX_COMPRESSION: u64 = 16;

/// The largest packed set that is kept in memory after a submit.
const MAX_KEPT_BYTES: u64 = 16 << 20;

/// How many bytes the nodes of a task may read from Kubernetes together.
const MAX_DELIVERED_BYTES: u64 = 2 << 30;

/// Where the files of tasks come from.
#[derive(Debug, Clone)]
pub struct FileSource {
    store: FileStore,
    /// The most bytes that the file sets of a task may have, packed.
    max_packed_bytes: u64,
    packed: Arc<tokio::sync::Mutex<PackedSets>>,
}

/// Sets that are packed already.
#[derive(Debug, Default)]
struct PackedSets {
    /// Those of tasks that are being submitted: the tasks of a group have the same.
    in_use: HashMap<(UserName, FileSetId), Weak<PackedSet>>,
    /// The last one, unless it is large: whoever submits a task often submits the next one from the same folder.
    last: Option<Arc<PackedSet>>,
}

/// A file set as the parts of a tar.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PackedSet {
    /// The SHA-256 of the tar, in hexadecimal.
    pub hash: String,
    pub parts: Vec<Bytes>,
}

/// A file set of a task, ready to be brought to its nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PackedFiles {
    pub mount: FileMount,
    pub set: Arc<PackedSet>,
}

impl FileSource {
    /// The files of a store; those of one task may have this many bytes, packed.
    #[must_use]
    pub fn new(store: FileStore, max_packed_bytes: u64) -> Self {
        Self {
            store,
            max_packed_bytes,
            packed: Arc::default(),
        }
    }
}

/// Packs the file sets of a task.
///
/// # Errors
/// [`Error::FilesElsewhere`], [`Error::FilesNotStored`], [`Error::FilesTooLarge`], or a failure of the store.
pub(crate) async fn resolve(
    settings: &Settings,
    user: &UserName,
    definition: &TaskDefinition,
) -> Result<Vec<PackedFiles>, Error> {
    if settings.pods.shares_home {
        check_targets(definition)?;
    }
    pack_all(settings.files.as_ref(), user, definition).await
}

/// Containers that share the files of a machine must not write to them.
fn check_targets(definition: &TaskDefinition) -> Result<(), Error> {
    let elsewhere = definition.files.iter().find_map(|mount| match &mount.target {
        Target::Elsewhere(path) => Some(path.clone()),
        Target::WorkingDir(_) => None,
    });
    elsewhere.map_or(Ok(()), |path| Err(Error::FilesElsewhere { path }))
}

async fn pack_all(
    source: Option<&FileSource>,
    user: &UserName,
    definition: &TaskDefinition,
) -> Result<Vec<PackedFiles>, Error> {
    let mut all = Vec::with_capacity(definition.files.len());
    let mut bytes = 0;
    for mount in &definition.files {
        let missing = || Error::FilesNotStored {
            id: mount.files.to_string(),
        };
        let source = source.ok_or_else(missing)?;
        let set = source.packed(user, &mount.files).await?.ok_or_else(missing)?;
        bytes += set.bytes();
        if bytes > source.max_packed_bytes {
            return Err(too_large(format!(
                "the files of a task may have at most {} when packed",
                HumanSize(source.max_packed_bytes)
            )));
        }
        all.push(PackedFiles {
            mount: mount.clone(),
            set,
        });
    }
    let delivered = bytes.saturating_mul(u64::from(definition.num_nodes));
    if delivered > MAX_DELIVERED_BYTES {
        return Err(too_large(format!(
            "{} of packed files for {} nodes are more than the limit of {} in all",
            HumanSize(bytes),
            definition.num_nodes,
            HumanSize(MAX_DELIVERED_BYTES)
        )));
    }
    Ok(all)
}

fn too_large(reason: String) -> Error {
    Error::FilesTooLarge { reason }
}

impl PackedSet {
    /// The size of all parts.
    pub(crate) fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.len() as u64).sum()
    }

    /// The name of the ConfigMap of this set for tasks that are submitted together, the first of which has this owner.
    pub(crate) fn object_name(&self, owner_uid: &str) -> String {
        let digest = Sha256::digest(format!("{owner_uid}/{}", self.hash));
        format!("k8s-cli-files-{:.40}", format!("{digest:x}"))
    }

    /// The name of the ConfigMap with a part of a set.
    pub(crate) fn part_name(object_name: &str, part: usize) -> String {
        format!("{object_name}-{part}")
    }
}

impl FileSource {
    /// The packed set, or `None` if the user has not stored all of it.
    async fn packed(&self, user: &UserName, id: &FileSetId) -> Result<Option<Arc<PackedSet>>, Error> {
        let key = (user.clone(), id.clone());
        // Held meanwhile: the other tasks of a group wait for the same set, and memory is for one at a time.
        let mut packed = self.packed.lock().await;
        if let Some(set) = packed.in_use.get(&key).and_then(Weak::upgrade) {
            return Ok(Some(set));
        }
        packed.last = None;
        packed.in_use.retain(|_, set| set.strong_count() > 0);
        let Some(set) = self.pack(user, id).await?.map(Arc::new) else {
            return Ok(None);
        };
        packed.in_use.insert(key, Arc::downgrade(&set));
        packed.last = Some(Arc::clone(&set)).filter(|set| set.bytes() <= MAX_KEPT_BYTES);
        Ok(Some(set))
    }

    async fn pack(&self, user: &UserName, id: &FileSetId) -> Result<Option<PackedSet>, Error> {
        let Ok(hash) = id.as_str().parse::<ManifestHash>() else {
            return Ok(None);
        };
        let Some(manifest) = self.store.manifest(user.as_str(), &hash).await? else {
            return Ok(None);
        };
        let limit = self.max_packed_bytes.saturating_mul(MAX_COMPRESSION);
        if manifest.total_bytes() > limit {
            return Err(too_large(format!(
                "the files have {}, more than the limit of {} for files in Kubernetes objects",
                HumanSize(manifest.total_bytes()),
                HumanSize(limit)
            )));
        }
        let wanted = manifest.contents();
        let wanted = wanted
            .into_iter()
            .filter_map(|(hash, length)| Content::new(hash, length));
        let Some(contents) = self.store.contents(user.as_str(), wanted).await? else {
            return Ok(None);
        };
        let packed = tokio::task::spawn_blocking(move || pack(&manifest, &contents)).await;
        // The runtime cancels a blocking call only when it shuts down.
        packed.unwrap_or_else(|_| Err(Error::Stopping)).map(Some)
    }
}

fn pack(manifest: &Manifest, contents: &HashMap<ContentHash, Bytes>) -> Result<PackedSet, Error> {
    let mut read = |content: &Content| {
        let found = contents.get(content.hash()).cloned();
        found.ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotFound))
    };
    // Unpacked with other programs in other images, which agree if nobody lacks rights to their own files.
    let tar = Tar { writable: true };
    let packed = tar.write_gz(manifest, &mut read, Vec::new());
    let packed = Bytes::from(packed.map_err(|source| Error::Files {
        source: Box::new(source),
    })?);
    Ok(PackedSet {
        hash: format!("{:x}", Sha256::digest(&packed)),
        parts: (0..packed.len())
            .step_by(PART_BYTES)
            .map(|start| packed.slice(start..packed.len().min(start + PART_BYTES)))
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use archive::{FileStore, Location};
    use bytes::Bytes;
    use files::{Content, Entry, EntryKind, EntryPath, Manifest, Mode};
    use serde_json::json;
    use task::definition::MAX_NODES;
    use task::{TaskDefinition, UserName};

    use super::{FileSource, PART_BYTES, pack_all};
    use crate::error::Error;

    const LIMITS: files::Limits = files::Limits {
        max_entries: 100,
        max_total_bytes: 1 << 30,
        max_manifest_bytes: 1 << 20,
    };

    fn user(name: &str) -> UserName {
        UserName::parse(name).unwrap()
    }

    /// A store with a file of alice, and a task with it.
    async fn stored(content: Vec<u8>, num_nodes: u32) -> (FileStore, TaskDefinition) {
        let store = FileStore::open(&Location::memory(), LIMITS, 1 << 30).unwrap();
        let kind = EntryKind::File {
            mode: Mode::new(0o644),
            contents: vec![Content::of(&content).unwrap()],
        };
        let path = EntryPath::new("file").unwrap();
        let manifest = Manifest::new(vec![Entry { path, kind }]).unwrap();
        store.put_contents("alice", vec![Bytes::from(content)]).await.unwrap();
        store.put_manifest("alice", &manifest).await.unwrap();
        let body = json!({"run": "true", "num_nodes": num_nodes, "files": {".": manifest.hash().to_string()}});
        (store, TaskDefinition::parse(&body, MAX_NODES).unwrap())
    }

    /// Bytes that do not compress.
    fn noise(count: u32) -> Vec<u8> {
        let mut state = 1_u32;
        let next = |_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state as u8
        };
        (0..count).map(next).collect()
    }

    #[tokio::test]
    async fn a_file_set_has_as_many_parts_as_it_needs() {
        let (store, task) = stored(noise(2_500_000), 1).await;
        let source = FileSource::new(store, 4 << 20);
        let packed = pack_all(Some(&source), &user("alice"), &task).await.unwrap();
        let sizes: Vec<usize> = packed[0].set.parts.iter().map(Bytes::len).collect();
        assert_eq!((sizes.len(), sizes[0], sizes[1]), (3, PART_BYTES, PART_BYTES));
        // The second task of a group has the same.
        let again = pack_all(Some(&source), &user("alice"), &task).await.unwrap();
        assert!(std::sync::Arc::ptr_eq(&packed[0].set, &again[0].set));
    }

    #[tokio::test]
    async fn files_of_another_user_and_too_many_of_ones_own_are_refused() {
        let (store, task) = stored(noise(2_500_000), 1000).await;
        let source = FileSource::new(store.clone(), 4 << 20);
        let of = async |source, name| pack_all(source, &user(name), &task).await.map(drop).unwrap_err();
        assert!(matches!(of(Some(&source), "bob").await, Error::FilesNotStored { .. }));
        assert!(matches!(of(None, "alice").await, Error::FilesNotStored { .. }));
        // Not for a thousand nodes.
        let error = of(Some(&source), "alice").await.to_string();
        assert!(error.contains("limit of 2 GiB in all"), "{error}");
        let small = FileSource::new(store, 1 << 20);
        assert!(matches!(of(Some(&small), "alice").await, Error::FilesTooLarge { .. }));
    }
}
