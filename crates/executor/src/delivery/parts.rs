//! Creates the ConfigMaps with the parts of a task's files.
//!
//! Their names derive from their content, so that all tasks with the same files share them: a thousand tasks of a sweep
//! would otherwise fill etcd. Each task adds its owner to those of the ConfigMap, and Kubernetes deletes the ConfigMap when
//! all of its owners are gone.

use std::collections::BTreeMap;

use futures::{TryStreamExt, stream};
use serde_json::json;

use super::pack::PackedSet;
use crate::error::Error;
use crate::kubernetes::{ApiClient, ByteString, ConfigMap, ObjectMeta, OwnerReference, Target};
use crate::manifest::{PART_KEY, Submission};

/// How many parts are created concurrently.
const CONCURRENT_PARTS: usize = 4;

/// How often to try again after another server has changed the owners.
const TRIES: usize = 8;

const CREATE: &str = "create a ConfigMap with files of the task";
const SHARE: &str = "share a ConfigMap with files of other tasks";

/// Creates the parts of all file sets of a task that are not there yet, and makes `owner` one of their owners.
pub(crate) async fn create_parts(
    client: &ApiClient,
    submission: &Submission,
    owner: &OwnerReference,
) -> Result<(), Error> {
    let sets = submission.files.iter().map(|files| &files.set);
    let parts = sets.flat_map(|set| (0..set.parts.len()).map(move |part| (set, part)));
    stream::iter(parts.map(Ok))
        .try_for_each_concurrent(CONCURRENT_PARTS, |(set, part)| create_part(client, set, part, owner))
        .await
}

async fn create_part(client: &ApiClient, set: &PackedSet, part: usize, owner: &OwnerReference) -> Result<(), Error> {
    let name = set.part_name(part);
    let content = ByteString(set.parts[part].to_vec());
    let manifest = ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            owner_references: Some(vec![owner.clone()]),
            ..ObjectMeta::default()
        },
        immutable: Some(true),
        binary_data: Some(BTreeMap::from([(PART_KEY.to_owned(), content)])),
        ..ConfigMap::default()
    };
    for _ in 0..TRIES {
        match client.create_only(CREATE, &manifest).await {
            Err(error) if error.is_already_exists() => {}
            created => return created,
        }
        let Some(existing) = client.get::<ConfigMap>(SHARE, &name).await? else {
            continue;
        };
        if is_shared(client, existing, &manifest, owner).await? {
            return Ok(());
        }
    }
    Err(Error::FilesInUse { name })
}

/// Adds an owner to an existing part. Returns whether it did; not if the part is being deleted or somebody else was faster.
async fn is_shared(
    client: &ApiClient,
    existing: ConfigMap,
    wanted: &ConfigMap,
    owner: &OwnerReference,
) -> Result<bool, Error> {
    let metadata = existing.metadata;
    // Anybody in the namespace can create an object of this name. Only what is immutable stays what was compared.
    if existing.binary_data != wanted.binary_data || existing.data.is_some() || existing.immutable != Some(true) {
        let name = metadata.name.unwrap_or_default();
        return Err(Error::FilesInUse { name });
    }
    if metadata.deletion_timestamp.is_some() {
        return Ok(false);
    }
    let (Some(name), Some(uid), Some(version)) = (metadata.name, metadata.uid, metadata.resource_version) else {
        return Ok(false);
    };
    let mut owners = metadata.owner_references.unwrap_or_default();
    if owners.iter().any(|known| known.uid == owner.uid) {
        return Ok(true);
    }
    owners.push(owner.clone());
    let patch = json!({"metadata": {"ownerReferences": owners}});
    let target = Target {
        name: &name,
        uid: &uid,
        version: Some(&version),
    };
    match client.merge_patch::<ConfigMap>(SHARE, target, patch).await {
        Ok(patched) => Ok(patched.is_some()),
        Err(error) if error.is_conflict() => Ok(false),
        Err(error) => Err(error),
    }
}
