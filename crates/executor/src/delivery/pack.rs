//! Packs the file sets of a task.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use archive::FileStore;
use bytes::Bytes;
use files::{Content, ContentHash, HumanSize, Manifest, ManifestHash, Tar};
use sha2::{Digest, Sha256};
use task::definition::{FileMount, FileSetId};
use task::{TaskDefinition, UserName};

use super::fetch::Fetching;
use super::queue::PackingQueue;
use crate::error::Error;

/// The size of a part. A ConfigMap may have 1 MiB.
pub(super) const PART_BYTES: usize = 1_000_000;

/// Maximum unpacked size of a file set, as a multiple of the packed limit: files that compress better are usually a
/// mistake, and all of them are in memory while they are packed.
pub const MAX_COMPRESSION: u64 = 16;

/// The same where nodes can fetch files: packing more would be in vain for most.
const WORTH_PACKING: u64 = 4;

/// The largest packed set that is kept in memory after a submit.
const MAX_KEPT_BYTES: u64 = 16 << 20;

/// How many bytes the nodes of a task may read from Kubernetes together.
const MAX_DELIVERED_BYTES: u64 = 2 << 30;

/// Where the files of tasks come from.
#[derive(Debug, Clone)]
pub struct FileSource {
    pub(super) store: FileStore,
    /// The most bytes that the file sets of a task may have, packed.
    max_packed_bytes: u64,
    /// What becomes of larger ones.
    pub(super) fetching: Fetching,
    packed: Arc<Mutex<PackedSets>>,
    queue: Arc<PackingQueue>,
}

/// Sets that are packed already.
#[derive(Debug, Default)]
struct PackedSets {
    /// Those of tasks that are being submitted: the tasks of a group have the same.
    in_use: HashMap<(UserName, FileSetId), Weak<PackedSet>>,
    /// The last one, unless it is large: users often submit the next task from the same folder.
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

/// Whether the files of a task could be packed.
#[derive(Debug)]
pub(super) enum Packing<T> {
    Packed(T),
    /// The user has not stored all of this file set.
    NotStored(FileSetId),
    /// They are too large for ConfigMaps.
    TooLarge(String),
}

impl FileSource {
    /// The files of a store; those of one task may have this many bytes, packed, unless nodes fetch them.
    #[must_use]
    pub fn new(store: FileStore, max_packed_bytes: u64, fetching: Fetching) -> Self {
        Self {
            store,
            max_packed_bytes,
            fetching,
            packed: Arc::default(),
            queue: Arc::default(),
        }
    }

    /// Packs the file sets of a task.
    pub(super) async fn pack_all(
        &self,
        user: &UserName,
        definition: &TaskDefinition,
    ) -> Result<Packing<Vec<PackedFiles>>, Error> {
        let mut all = Vec::with_capacity(definition.files.len());
        let mut bytes = 0;
        for mount in &definition.files {
            let set = match self.packed(user, &mount.files).await? {
                Packing::Packed(set) => set,
                Packing::NotStored(id) => return Ok(Packing::NotStored(id)),
                Packing::TooLarge(reason) => return Ok(Packing::TooLarge(reason)),
            };
            bytes += set.bytes();
            if bytes > self.max_packed_bytes {
                return Ok(Packing::TooLarge(self.too_large()));
            }
            all.push(PackedFiles {
                mount: mount.clone(),
                set,
            });
        }
        let delivered = bytes.saturating_mul(u64::from(definition.num_nodes));
        if delivered > MAX_DELIVERED_BYTES {
            return Ok(Packing::TooLarge(format!(
                "{} of packed files for {} nodes are more than the limit of {} in all",
                HumanSize(bytes),
                definition.num_nodes,
                HumanSize(MAX_DELIVERED_BYTES)
            )));
        }
        Ok(Packing::Packed(all))
    }
}

impl PackedSets {
    fn find(&self, key: &(UserName, FileSetId)) -> Option<Arc<PackedSet>> {
        self.in_use.get(key).and_then(Weak::upgrade)
    }

    fn insert(&mut self, key: (UserName, FileSetId), set: &Arc<PackedSet>) {
        self.in_use.retain(|_, set| set.strong_count() > 0);
        self.in_use.insert(key, Arc::downgrade(set));
        self.last = Some(Arc::clone(set)).filter(|set| set.bytes() <= MAX_KEPT_BYTES);
    }
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
    async fn packed(&self, user: &UserName, id: &FileSetId) -> Result<Packing<Arc<PackedSet>>, Error> {
        let key = (user.clone(), id.clone());
        if let Some(set) = self.sets().find(&key) {
            return Ok(Packing::Packed(set));
        }
        let turn = self.queue.turn(user).await?;
        // The other tasks of a group wait for the same set.
        if let Some(set) = self.sets().find(&key) {
            return Ok(Packing::Packed(set));
        }
        let source = self.clone();
        // The turn ends with the work: the caller may be gone before.
        let packing = tokio::spawn(async move {
            let packed = source.pack(&key.0, &key.1).await;
            if let Ok(Packing::Packed(set)) = &packed {
                source.sets().insert(key, set);
            }
            drop(turn);
            packed
        });
        // The runtime cancels it only when it shuts down.
        packing.await.unwrap_or(Err(Error::Stopping))
    }

    fn sets(&self) -> MutexGuard<'_, PackedSets> {
        self.packed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn pack(&self, user: &UserName, id: &FileSetId) -> Result<Packing<Arc<PackedSet>>, Error> {
        let not_stored = || Ok(Packing::NotStored(id.clone()));
        let Ok(hash) = id.as_str().parse::<ManifestHash>() else {
            return not_stored();
        };
        let Some(manifest) = self.store.manifest(user.as_str(), &hash).await? else {
            return not_stored();
        };
        let limit = self.max_bytes_to_pack();
        if manifest.total_bytes() > limit {
            return Ok(Packing::TooLarge(format!(
                "the files take {}, more than the limit of {} for files in Kubernetes objects",
                HumanSize(manifest.total_bytes()),
                HumanSize(limit)
            )));
        }
        let wanted = manifest.contents();
        let wanted = wanted
            .into_iter()
            .filter_map(|(hash, length)| Content::new(hash, length));
        let Some(contents) = self.store.contents(user.as_str(), wanted).await? else {
            return not_stored();
        };
        let limit = self.max_packed_bytes;
        let packed = tokio::task::spawn_blocking(move || pack(&manifest, &contents, limit)).await;
        // The runtime cancels a blocking call only when it shuts down.
        let packed = packed.unwrap_or_else(|_| Err(Error::Stopping))?;
        Ok(packed.map_or_else(
            || Packing::TooLarge(self.too_large()),
            |set| Packing::Packed(Arc::new(set)),
        ))
    }

    /// How large a file set may be for it to be packed.
    fn max_bytes_to_pack(&self) -> u64 {
        let factor = match self.fetching {
            Fetching::From(_) => WORTH_PACKING,
            Fetching::Missing(_) => MAX_COMPRESSION,
        };
        self.max_packed_bytes.saturating_mul(factor)
    }

    fn too_large(&self) -> String {
        format!(
            "the files of a task may have at most {} when packed",
            HumanSize(self.max_packed_bytes)
        )
    }
}

/// Packs a file set, unless it has more bytes then than the limit.
fn pack(manifest: &Manifest, contents: &HashMap<ContentHash, Bytes>, limit: u64) -> Result<Option<PackedSet>, Error> {
    let mut read = |content: &Content| {
        let found = contents.get(content.hash()).cloned();
        found.ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotFound))
    };
    // Unpacked with other programs in other images, which agree if nobody lacks rights to their own files.
    let tar = Tar { writable: true };
    let packed = tar.gz_within(manifest, &mut read, limit);
    let packed = packed.map_err(|source| Error::Files {
        source: Box::new(source),
    })?;
    let Some(packed) = packed.map(Bytes::from) else {
        return Ok(None);
    };
    Ok(Some(PackedSet {
        hash: format!("{:x}", Sha256::digest(&packed)),
        parts: (0..packed.len())
            .step_by(PART_BYTES)
            .map(|start| packed.slice(start..packed.len().min(start + PART_BYTES)))
            .collect(),
    }))
}
