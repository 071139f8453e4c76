//! Creates the objects with the files of tasks: for each file set, a small ConfigMap that owns the parts of its tar.
//!
//! Tasks that are submitted together share them: a thousand tasks of a sweep would otherwise fill etcd. The small ConfigMap
//! is owned by all of these tasks, so that one patch of it is enough, whatever the size of the files. Tasks of different
//! submits share nothing: an object that Kubernetes is about to delete with one task must not be what another one needs.

use std::collections::BTreeMap;
use std::sync::Arc;

use files::HumanSize;
use futures::{TryStreamExt, stream};
use serde_json::json;

use super::pack::PackedSet;
use crate::error::Error;
use crate::kubernetes::{ApiClient, ByteString, ConfigMap, ObjectMeta, ObjectRef, OwnerReference};
use crate::labels;
use crate::manifest::{PART_KEY, Submission};
use crate::user_key::user_label;

/// How many parts are created concurrently.
const CONCURRENT_PARTS: usize = 4;

/// How many bytes of packed files Kubernetes may hold for tasks that have not ended, in all. etcd has 2 GiB by default, and
/// keeps what was deleted for some minutes.
const MAX_BYTES: u64 = 512 << 20;

/// How much of that may be of one user.
const MAX_USER_BYTES: u64 = MAX_BYTES / 2;

const CREATE: &str = "create a ConfigMap with files of the task";
const SHARE: &str = "share the ConfigMaps with files among the tasks";
const COUNT: &str = "count the files of tasks";

/// A file set in Kubernetes.
pub(crate) struct CreatedSet {
    object: ObjectRef,
    /// The hash of the packed set.
    hash: String,
}

/// The packed file sets of tasks that are submitted together, by their hashes.
fn distinct_sets(tasks: &[Submission]) -> BTreeMap<&str, &Arc<PackedSet>> {
    let files = tasks.iter().flat_map(|task| task.files.packed());
    files.map(|files| (files.set.hash.as_str(), &files.set)).collect()
}

/// How many parts the files of tasks have that are submitted together.
pub(crate) fn part_count(tasks: &[Submission]) -> usize {
    distinct_sets(tasks).values().map(|set| set.parts.len()).sum()
}

/// Creates the objects of the file sets of tasks that are submitted together, owned by `owner`, which is that of the first
/// task.
///
/// # Errors
/// [`Error::FilesFull`], [`Error::FilesInUse`], or a failure of Kubernetes.
pub(crate) async fn create_sets(
    client: &ApiClient,
    tasks: &[Submission],
    owner: &OwnerReference,
) -> Result<Vec<CreatedSet>, Error> {
    let sets = distinct_sets(tasks);
    let Some(task) = tasks.first().filter(|_| !sets.is_empty()) else {
        return Ok(Vec::new());
    };
    let user = user_label(&task.user);
    check_room(client, &user, sets.values().map(|set| set.bytes()).sum(), owner).await?;
    let mut created = Vec::new();
    for set in sets.into_values() {
        let object = create_set(client, set, &user, owner).await?;
        let owner = object.as_owner();
        let parts = (0..set.parts.len()).map(Ok);
        stream::iter(parts)
            .try_for_each_concurrent(CONCURRENT_PARTS, |part| {
                let name = PackedSet::part_name(&object.name, part);
                create_part(client, name, set.parts[part].to_vec(), &owner)
            })
            .await?;
        let hash = set.hash.clone();
        created.push(CreatedSet { object, hash });
    }
    Ok(created)
}

/// Makes the owners of all tasks of a group owners of their file sets, so that these live as long as one of the tasks. The
/// first task owns all of them already.
pub(crate) async fn share_sets(
    client: &ApiClient,
    sets: &[CreatedSet],
    tasks: &[(&Submission, OwnerReference)],
) -> Result<(), Error> {
    for set in sets {
        let has_set = |task: &Submission| task.files.packed().iter().any(|files| files.set.hash == set.hash);
        let owners = tasks.iter().enumerate();
        let owners = owners.filter(|(index, (task, _))| *index == 0 || has_set(task));
        let owners: Vec<&OwnerReference> = owners.map(|(_, (_, owner))| owner).collect();
        let patch = json!({"metadata": {"ownerReferences": owners}});
        let patched = client.merge_patch::<ConfigMap>(SHARE, set.object.any_version(), patch);
        if patched.await?.is_none() {
            return Err(in_use(&set.object.name));
        }
    }
    Ok(())
}

/// Whether there is room for the files of one more submit. Two at once may exceed the limit by one.
async fn check_room(client: &ApiClient, user: &str, more: u64, owner: &OwnerReference) -> Result<(), Error> {
    let (mut all, mut own) = (more, more);
    for set in client.list::<ConfigMap>(COUNT, labels::PACKED_FILES_SELECTOR).await? {
        // Those of another try of the same submit.
        if is_owned(&set, &owner.uid) {
            continue;
        }
        let bytes = packed_bytes(&set);
        all = all.saturating_add(bytes);
        if set
            .metadata
            .labels
            .as_ref()
            .and_then(|labels| labels.get(labels::USER))
            .map(String::as_str)
            == Some(user)
        {
            own = own.saturating_add(bytes);
        }
    }
    let limit = |whose, bytes, limit| Error::FilesFull {
        whose,
        bytes: HumanSize(bytes).to_string(),
        limit: HumanSize(limit).to_string(),
    };
    match (own > MAX_USER_BYTES, all > MAX_BYTES) {
        (true, _) => Err(limit("your", own, MAX_USER_BYTES)),
        (false, true) => Err(limit("all", all, MAX_BYTES)),
        (false, false) => Ok(()),
    }
}

/// The size that a file set says it has. Anybody in the namespace may have written it.
fn packed_bytes(set: &ConfigMap) -> u64 {
    let annotations = set.metadata.annotations.as_ref();
    let bytes = annotations.and_then(|annotations| annotations.get(labels::PACKED_BYTES));
    let bytes: Option<u64> = bytes.and_then(|bytes| bytes.parse().ok());
    bytes.unwrap_or_default().min(MAX_BYTES)
}

async fn create_set(
    client: &ApiClient,
    set: &PackedSet,
    user: &str,
    owner: &OwnerReference,
) -> Result<ObjectRef, Error> {
    let name = set.object_name(&owner.uid);
    let manifest = ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            labels: Some(BTreeMap::from([
                (labels::PACKED_FILES.to_owned(), labels::TRUE.to_owned()),
                (labels::USER.to_owned(), user.to_owned()),
            ])),
            annotations: Some(BTreeMap::from([(
                labels::PACKED_BYTES.to_owned(),
                set.bytes().to_string(),
            )])),
            owner_references: Some(vec![owner.clone()]),
            ..ObjectMeta::default()
        },
        ..ConfigMap::default()
    };
    // Another try of the same submit may have created it. The name derives from the owner, which nobody knew before.
    let found = client.create(CREATE, &manifest, &mut Vec::new()).await?;
    let found = found.filter(|found| is_owned(found, &owner.uid) && found.metadata.deletion_timestamp.is_none());
    let uid = found.and_then(|found| found.metadata.uid);
    let uid = uid.ok_or_else(|| in_use(&name))?;
    Ok(ObjectRef { name, uid })
}

async fn create_part(client: &ApiClient, name: String, content: Vec<u8>, owner: &OwnerReference) -> Result<(), Error> {
    let manifest = ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            owner_references: Some(vec![owner.clone()]),
            ..ObjectMeta::default()
        },
        immutable: Some(true),
        binary_data: Some(BTreeMap::from([(PART_KEY.to_owned(), ByteString(content))])),
        ..ConfigMap::default()
    };
    match client.create_only(CREATE, &manifest).await {
        Err(error) if error.is_already_exists() => {}
        created => return created,
    }
    // Another try has created it, or somebody else. Only what is immutable stays what is compared here.
    let existing = client.get::<ConfigMap>(CREATE, &name).await?;
    let is_same = |existing: &ConfigMap| {
        existing.binary_data == manifest.binary_data && existing.data.is_none() && existing.immutable == Some(true)
    };
    match existing {
        Some(existing) if is_same(&existing) && is_owned(&existing, &owner.uid) => Ok(()),
        Some(_) | None => Err(in_use(&name)),
    }
}

fn is_owned(object: &ConfigMap, uid: &str) -> bool {
    let mut owners = object.metadata.owner_references.iter().flatten();
    owners.any(|owner| owner.uid == uid)
}

fn in_use(name: &str) -> Error {
    Error::FilesInUse { name: name.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{MAX_BYTES, packed_bytes};
    use crate::kubernetes::{ConfigMap, ObjectMeta};
    use crate::labels;

    #[test]
    fn a_size_that_somebody_else_wrote_is_bounded() {
        let of = |text: &str| {
            packed_bytes(&ConfigMap {
                metadata: ObjectMeta {
                    annotations: Some(BTreeMap::from([(labels::PACKED_BYTES.to_owned(), text.to_owned())])),
                    ..ObjectMeta::default()
                },
                ..ConfigMap::default()
            })
        };
        assert_eq!(of("1000"), 1000);
        assert_eq!(of("18446744073709551615"), MAX_BYTES);
        assert_eq!(of("-1"), 0);
        assert_eq!(packed_bytes(&ConfigMap::default()), 0);
    }
}
