//! Volumes: making and deleting them, and finding the ones that a task names.

use task::volume::{VolumeMetadata, VolumeStatus};
use task::{Id, UserName, VolumeDefinition, VolumeMount};

use crate::cache::{Cache, Volume};
use crate::error::Error;
use crate::kubernetes::{Calls, Created, PersistentVolumeClaim, Target};
use crate::labels::{self, Owner};
use crate::manifest;
use crate::settings::SharedClaims;

/// How many identifiers are tried.
const ID_TRIES: usize = 4;

/// Makes a volume and returns its identifier.
pub(crate) async fn create(
    calls: &Calls,
    cache: &Cache,
    user: &UserName,
    definition: &VolumeDefinition,
) -> Result<Id, Error> {
    for _ in 0..ID_TRIES {
        let id = Id::random();
        let token = Id::random();
        let claim = manifest::claim(definition, &id, user, calls.now(), token.as_str());
        match calls
            .create("create the PersistentVolumeClaim", &claim, &mut Vec::new())
            .await?
        {
            Created::Made(claim) | Created::Shared(claim) => {
                if let Ok(volume) = Volume::from_resource(claim) {
                    cache.made_volume(volume);
                }
                return Ok(id);
            }
            Created::Taken(_) => {}
        }
    }
    Err(Error::NoFreeId { tries: ID_TRIES })
}

/// Deletes a volume and returns the tasks that still use it: it goes when they end.
pub(crate) async fn delete(calls: &Calls, cache: &Cache, volume: &Volume) -> Result<Vec<String>, Error> {
    let target = Target {
        name: &volume.claim,
        uid: &volume.uid,
        version: None,
    };
    calls
        .delete::<PersistentVolumeClaim>("delete the PersistentVolumeClaim", target)
        .await?;
    let users = cache.tasks_using(&volume.claim);
    cache.deleted_volume(&volume.uid, !users.is_empty());
    Ok(users)
}

/// The claims behind the volumes that a task names, in their order.
///
/// A name is first that of one of the user's own volumes, of several the oldest; then the identifier of one; then the name of a
/// claim: the user's own, or one that no user owns.
pub(crate) async fn resolve(
    calls: &Calls,
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
            None => literal(calls, user, mount, shared).await?,
        };
        claims.push(claim);
    }
    Ok(claims)
}

async fn literal(calls: &Calls, user: &UserName, mount: &VolumeMount, shared: SharedClaims) -> Result<String, Error> {
    let not_found = || Error::VolumeNotFound {
        path: mount.path.clone(),
        volume: mount.volume.clone(),
    };
    // What cannot be the name of a claim is not put into a request.
    if !is_claim_name(&mount.volume) {
        return Err(not_found());
    }
    let claim = calls
        .get::<PersistentVolumeClaim>("look for the volume", &mount.volume)
        .await?
        .ok_or_else(not_found)?;
    let labels = claim.metadata.labels.unwrap_or_default();
    let is_shared = labels.get(labels::SHARED).is_some_and(|shared| shared == labels::TRUE);
    let usable = match Owner::from_labels(&labels) {
        Some(owner) => owner == Owner::of(user) || owner == Owner::of_python(user),
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

/// The state of a volume on the wire.
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
