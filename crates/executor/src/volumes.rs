//! Creates and deletes volumes, and resolves the ones that a task mounts.

use std::time::Duration;

use task::definition::VolumeSource;
use task::wire::{VolumeMetadata, VolumeStatus};
use task::{Id, TaskDefinition, UserName, VolumeDefinition, VolumeMount};
use tokio::time::sleep;

use crate::cache::{Cache, Volume};
use crate::error::Error;
use crate::kubernetes::{ApiClient, DeleteOutcome, ObjectRef, PersistentVolumeClaim};
use crate::labels;
use crate::manifest;
use crate::placement::Inventory;
use crate::settings::SharedClaims;
use crate::user_key::UserKey;

/// How many IDs are tried before giving up.
const ID_TRIES: usize = 4;

/// When to look whether Kubernetes has let go of a deleted claim: for up to 3 seconds.
const PROTECTION_PAUSES: [Duration; 6] = [
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(600),
    Duration::from_secs(1),
    Duration::from_secs(1),
];

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
    const ACTION: &str = "delete the PersistentVolumeClaim";
    let claim = ObjectRef::new(&volume.claim, &volume.uid);
    let outcome = client
        .delete::<PersistentVolumeClaim>(ACTION, claim.any_version())
        .await?;
    let users = tasks_using(cache, &volume.claim);
    let is_gone = match outcome {
        DeleteOutcome::Deleted => true,
        DeleteOutcome::Finalizing(held) => {
            users.is_empty() && is_only_protected(&held) && is_gone_soon(client, ACTION, volume).await?
        }
    };
    cache.remove_deleted_volume(&volume.uid, !is_gone);
    Ok(users)
}

/// Whether only Kubernetes' own protection holds a deleted claim. It ends at once if no pod uses the claim.
fn is_only_protected(claim: &PersistentVolumeClaim) -> bool {
    let mut finalizers = claim.metadata.finalizers.iter().flatten();
    finalizers.all(|finalizer| finalizer == "kubernetes.io/pvc-protection")
}

/// Whether a deleted claim disappears while a user waits for the response. What holds it longer, e.g., a pod of somebody
/// else, is shown: it still exists, and so does its data.
async fn is_gone_soon(client: &ApiClient, action: &'static str, volume: &Volume) -> Result<bool, Error> {
    for pause in PROTECTION_PAUSES {
        sleep(pause).await;
        let claim = client.get::<PersistentVolumeClaim>(action, &volume.claim).await?;
        if claim.is_none_or(|claim| claim.metadata.uid.as_ref() != Some(&volume.uid)) {
            return Ok(true);
        }
    }
    Ok(false)
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

/// The PersistentVolumeClaim of a volume that a task mounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ResolvedClaim {
    /// Its name.
    pub name: String,
    access_modes: Vec<String>,
}

impl ResolvedClaim {
    /// Whether pods on several cluster nodes can mount it.
    fn is_for_many(&self) -> bool {
        let mut modes = self.access_modes.iter();
        modes.any(|mode| mode == "ReadWriteMany" || mode == "ReadOnlyMany")
    }
}

/// The PersistentVolumeClaims of the volumes that a task mounts, in the same order; `None` for those that are created with
/// its pods.
///
/// A name is looked up first among the names of the user's volumes (the oldest one wins), then among their IDs, then
/// among PersistentVolumeClaims that belong to the user or to nobody.
pub(crate) async fn resolve(
    client: &ApiClient,
    cache: &Cache,
    user: &UserName,
    definition: &TaskDefinition,
    shared: SharedClaims,
) -> Result<Vec<Option<ResolvedClaim>>, Error> {
    let mounts = &definition.volumes;
    if mounts.is_empty() {
        return Ok(Vec::new());
    }
    let own = cache.volumes(Some(user));
    let mut claims = Vec::with_capacity(mounts.len());
    for mount in mounts {
        let VolumeSource::Named { volume: wanted, .. } = &mount.source else {
            claims.push(None);
            continue;
        };
        let present = || own.iter().filter(|volume| !volume.terminating);
        let named = present().find(|volume| volume.name == *wanted);
        let claim = match named.or_else(|| present().find(|volume| volume.id == *wanted)) {
            Some(volume) => ResolvedClaim {
                name: volume.claim.clone(),
                access_modes: volume.access_modes.clone(),
            },
            None => match claim_by_name(client, user, wanted, shared).await? {
                Some(claim) => claim,
                None => {
                    return Err(Error::VolumeNotFound {
                        key: mount.key,
                        path: mount.path.as_str().into(),
                        volume: wanted.clone(),
                        for_many: definition.num_nodes > 1,
                    });
                }
            },
        };
        claims.push(Some(claim));
    }
    Ok(claims)
}

/// Fails if a task with several nodes mounts a volume that only one cluster node can mount, and there are several. Its
/// pods would wait for each other forever. Returns a warning if it is unknown how many there are.
///
/// # Errors
/// [`Error::VolumeNotShared`].
pub(crate) async fn check_shared(
    client: &ApiClient,
    inventory: &Inventory,
    definition: &TaskDefinition,
    claims: &[Option<ResolvedClaim>],
    is_autoscaled: bool,
) -> Result<Option<String>, Error> {
    let mounts = definition.volumes.iter().zip(claims);
    let for_one = |(mount, claim): (&VolumeMount, &Option<ResolvedClaim>)| match (&mount.source, claim) {
        (VolumeSource::Named { volume, .. }, Some(claim)) if !claim.is_for_many() => Some(Error::VolumeNotShared {
            key: mount.key,
            path: mount.path.as_str().into(),
            volume: volume.clone(),
            mode: claim
                .access_modes
                .first()
                .map(String::as_str)
                .unwrap_or_default()
                .into(),
        }),
        _ => None,
    };
    let Some(error) = mounts.filter_map(for_one).next().filter(|_| definition.num_nodes > 1) else {
        return Ok(None);
    };
    match inventory.machines(client).await? {
        None => Ok(Some(error.to_string())),
        Some(machines) if machines.len() > 1 || is_autoscaled => Err(error),
        Some(_) => Ok(None),
    }
}

/// The PersistentVolumeClaim with this name, or `None` if there is none that the user may mount.
async fn claim_by_name(
    client: &ApiClient,
    user: &UserName,
    volume: &str,
    shared: SharedClaims,
) -> Result<Option<ResolvedClaim>, Error> {
    // Never put a string that cannot be a name into a request path.
    if !is_claim_name(volume) {
        return Ok(None);
    }
    let Some(claim) = client
        .get::<PersistentVolumeClaim>("look up the volume", volume)
        .await?
    else {
        return Ok(None);
    };
    let access_modes = claim.spec.and_then(|spec| spec.access_modes).unwrap_or_default();
    let labels = claim.metadata.labels.unwrap_or_default();
    let is_shared = labels.get(labels::SHARED).is_some_and(|shared| shared == labels::TRUE);
    let usable = match UserKey::from_labels(&labels) {
        Some(owner) => owner == UserKey::of(user) || owner == UserKey::of_python(user),
        None => is_shared || shared == SharedClaims::Any,
    };
    if !usable || claim.metadata.deletion_timestamp.is_some() {
        return Ok(None);
    }
    Ok(Some(ResolvedClaim {
        name: volume.to_owned(),
        access_modes,
    }))
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
