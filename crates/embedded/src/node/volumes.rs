//! Volumes of a pod, as directories of this machine.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Volume;
use serde_json::Value;

use super::environment::{Sources, field};
use super::plan::Plan;
use super::projection::{self, Files};
use crate::container::{Folder, Mount};
use crate::files::sync_folder;
use crate::object::Object;

/// Returns the objects that the volumes come from, and whether each is required.
pub(super) fn references(plan: &Plan) -> Vec<(&'static str, String, bool)> {
    let mut all = Vec::new();
    for volume in &plan.volumes {
        if let Some(map) = &volume.config_map {
            all.push(("configmaps", map.name.clone(), map.optional != Some(true)));
        }
        if let Some(secret) = &volume.secret {
            let name = secret.secret_name.clone().unwrap_or_default();
            all.push(("secrets", name, secret.optional != Some(true)));
        }
        if let Some(claim) = &volume.persistent_volume_claim {
            all.push(("persistentvolumeclaims", claim.claim_name.clone(), true));
        }
    }
    all
}

/// Creates the directories of all volumes, and returns what to mount where. Errors are messages for the pod's status.
pub(super) fn prepare(
    plan: &Plan,
    pod: &Object,
    address: &str,
    sources: &Sources,
    folder: &Folder,
    claims: impl Fn(&str) -> PathBuf,
) -> Result<Vec<Mount>, String> {
    let mut places: HashMap<&str, (PathBuf, bool)> = HashMap::new();
    for volume in &plan.volumes {
        let own = folder.volumes().join(&volume.name);
        let place = make(volume, pod, address, sources, &own, &claims)
            .map_err(|why| format!("MountVolume.SetUp failed for volume \"{}\" : {why}", volume.name))?;
        places.insert(&volume.name, place);
    }
    let mut mounts = Vec::new();
    for mount in plan.container.volume_mounts.iter().flatten() {
        let Some((place, read_only)) = places.get(mount.name.as_str()) else {
            continue;
        };
        let mut source = place.clone();
        if let Some(below) = mount.sub_path.as_deref().filter(|path| !path.is_empty()) {
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
fn make(
    volume: &Volume,
    pod: &Object,
    address: &str,
    sources: &Sources,
    own: &Path,
    claims: &impl Fn(&str) -> PathBuf,
) -> Result<(PathBuf, bool), String> {
    let create = |path: &Path| fs::create_dir_all(path).map_err(|error| error.to_string());
    if let Some(claim) = &volume.persistent_volume_claim {
        let found = sources.get(&("persistentvolumeclaims", claim.claim_name.clone()));
        let uid = found
            .and_then(|claim| claim["metadata"]["uid"].as_str())
            .unwrap_or_default();
        let path = claims(uid);
        if !path.exists() {
            create(&path)?;
            // Without this, a power cut could lose the directory's name, and with it the files that a task has synced
            // inside.
            let parent = path.parent().unwrap_or(&path);
            sync_folder(parent).map_err(|error| error.to_string())?;
        }
        return Ok((path, claim.read_only == Some(true)));
    }
    if let Some(host) = &volume.host_path {
        return Ok((host.path.clone().into(), false));
    }
    if let Some((files, mode)) = files(volume, pod, address, sources)? {
        projection::write(own, &files, mode).map_err(|error| error.to_string())?;
        return Ok((own.to_owned(), true));
    }
    create(own)?;
    Ok((own.to_owned(), false))
}

/// Returns the files of a volume that comes from API objects, and their mode.
fn files(volume: &Volume, pod: &Object, address: &str, sources: &Sources) -> Result<Option<(Files, u32)>, String> {
    let mode = |mode: Option<i32>| u32::try_from(mode.unwrap_or(0o644)).unwrap_or(0o644);
    let known = |kind: &'static str, name: &str| -> Option<&Value> { sources.get(&(kind, name.to_owned())) };
    if let Some(source) = &volume.config_map {
        let all = known("configmaps", &source.name)
            .map(projection::data)
            .unwrap_or_default();
        let files = projection::chosen(all, source.items.as_deref(), source.optional == Some(true))?;
        return Ok(Some((files, mode(source.default_mode))));
    }
    if let Some(source) = &volume.secret {
        let name = source.secret_name.as_deref().unwrap_or_default();
        let all = known("secrets", name).map(projection::data).unwrap_or_default();
        let files = projection::chosen(all, source.items.as_deref(), source.optional == Some(true))?;
        return Ok(Some((files, mode(source.default_mode))));
    }
    if let Some(source) = &volume.downward_api {
        let items = source.items.iter().flatten();
        let files = items.filter_map(|item| {
            let text = field(item.field_ref.as_ref()?, pod, address);
            Some((item.path.clone(), text.into_bytes()))
        });
        return Ok(Some((files.collect(), mode(source.default_mode))));
    }
    Ok(None)
}

/// Updates a volume to the pod's current fields.
pub(super) fn refresh(volume: &Volume, pod: &Object, address: &str, own: &Path) -> Result<(), String> {
    match files(volume, pod, address, &Sources::new())? {
        Some((files, mode)) => projection::write(own, &files, mode).map_err(|error| error.to_string()),
        None => Ok(()),
    }
}

/// Whether a volume shows fields of the pod, which can change.
pub(super) fn follows_pod(plan: &Plan) -> bool {
    plan.volumes.iter().any(|volume| volume.downward_api.is_some())
}
