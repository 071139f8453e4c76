//! Volumes of a pod, as directories of this machine.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Volume, VolumeMount};

use super::atomic_writer::{self, FileContents, stays_below};
use super::environment::read_pod_field;
use super::pod_config::PodConfig;
use super::references::{Reference, ReferencedObjects};
use crate::container::{ContainerDir, Mount};
use crate::files::sync_dir;
use crate::object::{Kind, Object};

/// Returns the objects that the volumes come from, and whether each is required.
pub(super) fn list_references(pod_config: &PodConfig) -> Vec<Reference> {
    let mut all = Vec::new();
    for volume in &pod_config.volumes {
        if let Some(map) = &volume.config_map {
            all.push(Reference::new(Kind::ConfigMap, &map.name, map.optional));
        }
        if let Some(secret) = &volume.secret {
            let name = secret.secret_name.clone().unwrap_or_default();
            all.push(Reference::new(Kind::Secret, name, secret.optional));
        }
        if let Some(claim) = &volume.persistent_volume_claim {
            all.push(Reference::new(Kind::PersistentVolumeClaim, &claim.claim_name, None));
        }
    }
    all
}

/// Creates the directories of all volumes, and returns what to mount where. Errors are messages for the pod's status.
pub(super) fn prepare_volumes(
    pod_config: &PodConfig,
    pod: &Object,
    address: &str,
    objects: &ReferencedObjects,
    container_dir: &ContainerDir,
    claims: impl Fn(&str) -> PathBuf,
) -> Result<Vec<Mount>, String> {
    let is_in_memory = |volume: &&Volume| {
        let medium = volume.empty_dir.as_ref().and_then(|source| source.medium.as_deref());
        medium == Some("Memory")
    };
    let in_memory = pod_config
        .volumes
        .iter()
        .filter(is_in_memory)
        .map(|volume| volume.name.as_str());
    let in_memory: Vec<&str> = in_memory.collect();
    let mut dirs: HashMap<&str, (PathBuf, bool)> = HashMap::new();
    for volume in &pod_config.volumes {
        let own = container_dir.volumes().join(&volume.name);
        let dir = prepare_volume(volume, pod, address, objects, &own, &claims)
            .map_err(|why| format!("MountVolume.SetUp failed for volume \"{}\" : {why}", volume.name))?;
        dirs.insert(&volume.name, dir);
    }
    let mut mounts = Vec::new();
    // The shared memory of this machine is already in memory, and takes the place of a volume for it.
    let is_shared_memory = |mount: &&VolumeMount| {
        mount.mount_path.trim_end_matches('/') == "/dev/shm" && in_memory.contains(&mount.name.as_str())
    };
    for mount in pod_config
        .container
        .volume_mounts
        .iter()
        .flatten()
        .filter(|mount| !is_shared_memory(mount))
    {
        let Some((dir, read_only)) = dirs.get(mount.name.as_str()) else {
            continue;
        };
        let mut source = dir.clone();
        if let Some(below) = mount.sub_path.as_deref().filter(|path| !path.is_empty()) {
            if !stays_below(below) {
                return Err(format!("subPath {below} leads out of the volume"));
            }
            source = source.join(below);
            if !source.exists() {
                fs::create_dir_all(&source).map_err(|error| format!("failed to create subPath {below}: {error}"))?;
            }
        }
        mounts.push(Mount {
            source,
            target: mount.mount_path.clone().into(),
            read_only: *read_only || mount.read_only == Some(true),
        });
    }
    Ok(mounts)
}

/// Creates a volume. Returns its directory, and whether it is read-only.
fn prepare_volume(
    volume: &Volume,
    pod: &Object,
    address: &str,
    objects: &ReferencedObjects,
    own: &Path,
    claims: &impl Fn(&str) -> PathBuf,
) -> Result<(PathBuf, bool), String> {
    let create = |path: &Path| fs::create_dir_all(path).map_err(|error| error.to_string());
    if let Some(claim) = &volume.persistent_volume_claim {
        let found = objects.get(&(Kind::PersistentVolumeClaim, claim.claim_name.clone()));
        let path = claims(found.map_or("", Object::uid));
        if !path.exists() {
            create(&path)?;
            // Without this, a power cut could lose the directory's name, and with it the files that a task has synced
            // inside.
            let parent = path.parent().unwrap_or(&path);
            sync_dir(parent).map_err(|error| error.to_string())?;
        }
        return Ok((path, claim.read_only == Some(true)));
    }
    if let Some(host) = &volume.host_path {
        return Ok((host.path.clone().into(), false));
    }
    if let Some((files, mode)) = volume_files(volume, pod, address, objects)? {
        atomic_writer::write_atomically(own, &files, mode).map_err(|error| error.to_string())?;
        return Ok((own.to_owned(), true));
    }
    // An `emptyDir`, or an ephemeral volume: both exist as long as the pod.
    create(own)?;
    Ok((own.to_owned(), false))
}

/// Returns the files of a volume that comes from API objects, and their mode.
fn volume_files(
    volume: &Volume,
    pod: &Object,
    address: &str,
    objects: &ReferencedObjects,
) -> Result<Option<(FileContents, u32)>, String> {
    let mode = |mode: Option<i32>| u32::try_from(mode.unwrap_or(0o644)).unwrap_or(0o644);
    let known = |kind: Kind, name: &str| -> Option<&Object> { objects.get(&(kind, name.to_owned())) };
    if let Some(source) = &volume.config_map {
        let all = known(Kind::ConfigMap, &source.name)
            .map(atomic_writer::decode_entries)
            .unwrap_or_default();
        let files = atomic_writer::select_items(all, source.items.as_deref(), source.optional == Some(true))?;
        return Ok(Some((files, mode(source.default_mode))));
    }
    if let Some(source) = &volume.secret {
        let name = source.secret_name.as_deref().unwrap_or_default();
        let all = known(Kind::Secret, name)
            .map(atomic_writer::decode_entries)
            .unwrap_or_default();
        let files = atomic_writer::select_items(all, source.items.as_deref(), source.optional == Some(true))?;
        return Ok(Some((files, mode(source.default_mode))));
    }
    if let Some(source) = &volume.downward_api {
        let items = source.items.iter().flatten();
        let files = items.filter_map(|item| {
            let text = read_pod_field(item.field_ref.as_ref()?, pod, address);
            Some((item.path.clone(), text.into_bytes()))
        });
        return Ok(Some((files.collect(), mode(source.default_mode))));
    }
    Ok(None)
}

/// Updates a volume to the pod's current fields.
pub(super) fn refresh_volume(volume: &Volume, pod: &Object, address: &str, own: &Path) -> Result<(), String> {
    match volume_files(volume, pod, address, &ReferencedObjects::new())? {
        Some((files, mode)) => atomic_writer::write_atomically(own, &files, mode).map_err(|error| error.to_string()),
        None => Ok(()),
    }
}

/// Whether a volume shows fields of the pod, which can change.
pub(super) fn shows_pod_fields(pod_config: &PodConfig) -> bool {
    pod_config.volumes.iter().any(|volume| volume.downward_api.is_some())
}
