//! Creates and deletes volumes, and resolves the ones that a task mounts.

use task::wire::{VolumeMetadata, VolumeStatus};
use task::{Id, UserName, VolumeDefinition, VolumeMount};

use crate::cache::{Cache, Volume};
use crate::error::Error;
use crate::kubernetes::{ApiClient, ObjectRef, PersistentVolumeClaim};
use crate::labels;
use crate::manifest;
use crate::settings::SharedClaims;
use crate::user_key::UserKey;

/// How many IDs are tried before giving up.
const ID_TRIES: usize = 4;

/// Creates a volume and returns its ID.
pub(crate) async fn create(
    client: &ApiClient,
    cache: &Cache,
    user: &UserName,
    definition: &VolumeDefinition,
) -> Result<Id, Error> {
    for _ in 0..ID_TRIES {
        let id = Id::random();
        let token = Id::random();
        let claim = manifest::claim(definition, &id, user, client.now(), token.as_str());
        let created = client
            .create("create the PersistentVolumeClaim", &claim, &mut Vec::new())
            .await?;
        if let Some(claim) = created {
            if let Ok(volume) = Volume::from_resource(claim) {
                cache.insert_created_volume(volume);
            }
            return Ok(id);
        }
    }
    Err(Error::NoFreeId { tries: ID_TRIES })
}

/// Deletes a volume and returns the tasks that still use it. Kubernetes removes it only when they end.
pub(crate) async fn delete(client: &ApiClient, cache: &Cache, volume: &Volume) -> Result<Vec<String>, Error> {
    let claim = ObjectRef::new(&volume.claim, &volume.uid);
    client
        .delete::<PersistentVolumeClaim>("delete the PersistentVolumeClaim", claim.any_version())
        .await?;
    let users = tasks_using(cache, &volume.claim);
    cache.remove_deleted_volume(&volume.uid, !users.is_empty());
    Ok(users)
}

/// The unfinished tasks that mount this PersistentVolumeClaim.
fn tasks_using(cache: &Cache, claim: &str) -> Vec<String> {
    let mut users = cache.select(|entry| {
        let mut claims = entry.task.jobs.iter().flat_map(|job| &job.claims);
        let is_unfinished = entry
            .task
            .snapshot
            .as_ref()
            .is_some_and(|snapshot| !snapshot.state.is_final());
        (is_unfinished && claims.any(|used| used == claim)).then(|| entry.key.id.to_string())
    });
    users.sort_unstable();
    users
}

/// The PersistentVolumeClaims of the volumes that a task mounts, in the same order.
///
/// A name is looked up first among the names of the user's volumes (the oldest one wins), then among their IDs, then
/// among PersistentVolumeClaims that belong to the user or to nobody.
pub(crate) async fn resolve(
    client: &ApiClient,
    cache: &Cache,
    user: &UserName,
    mounts: &[VolumeMount],
    shared: SharedClaims,
) -> Result<Vec<String>, Error> {
    if mounts.is_empty() {
        return Ok(Vec::new());
    }
    let own = cache.volumes(Some(user));
    let mut claims = Vec::with_capacity(mounts.len());
    for mount in mounts {
        let present = || own.iter().filter(|volume| !volume.terminating);
        let named = present().find(|volume| volume.name == mount.volume);
        let claim = match named.or_else(|| present().find(|volume| volume.id == mount.volume)) {
            Some(volume) => volume.claim.clone(),
            None => claim_by_name(client, user, mount, shared).await?,
        };
        claims.push(claim);
    }
    Ok(claims)
}

async fn claim_by_name(
    client: &ApiClient,
    user: &UserName,
    mount: &VolumeMount,
    shared: SharedClaims,
) -> Result<String, Error> {
    let not_found = || Error::VolumeNotFound {
        path: mount.path.clone(),
        volume: mount.volume.clone(),
    };
    // Never put a string that cannot be a name into a request path.
    if !is_claim_name(&mount.volume) {
        return Err(not_found());
    }
    let claim = client
        .get::<PersistentVolumeClaim>("look up the volume", &mount.volume)
        .await?
        .ok_or_else(not_found)?;
    let labels = claim.metadata.labels.unwrap_or_default();
    let is_shared = labels.get(labels::SHARED).is_some_and(|shared| shared == labels::TRUE);
    let usable = match UserKey::from_labels(&labels) {
        Some(owner) => owner == UserKey::of(user) || owner == UserKey::of_python(user),
        None => is_shared || shared == SharedClaims::Any,
    };
    if !usable || claim.metadata.deletion_timestamp.is_some() {
        return Err(not_found());
    }
    Ok(mount.volume.clone())
}

fn is_claim_name(name: &str) -> bool {
    name.len() <= task::name::MAX_LENGTH
        && !name.starts_with(['-', '.'])
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.'))
}

/// The status of a volume in the API.
pub(crate) fn status(volume: Volume, namespace: &str) -> VolumeStatus {
    VolumeStatus {
        volume_id: volume.id,
        name: volume.name,
        size: volume.size,
        storage_class: volume.storage_class,
        access_modes: volume.access_modes,
        status: if volume.terminating {
            "Terminating".to_owned()
        } else {
            volume.phase
        },
        created_at: task::time::format(volume.created_at),
        username: volume.username,
        metadata: VolumeMetadata {
            pvc_name: volume.claim,
            namespace: namespace.to_owned(),
        },
    }
}
