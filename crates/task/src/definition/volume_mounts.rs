//! Parses `volumes`, the volumes of a task and their mount paths.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::metadata;
use super::scripts::MAX_PATH_BYTES;
use crate::quantity::Quantity;
use crate::validation::{Fields, Validator, coerce};
use crate::volume::{ACCESS_MODES, parse_access_mode, parse_size, parse_storage_class};

/// The maximum number of volumes. Each is a mount, and nested mounts take the container runtime quadratic time.
pub(super) const MAX_VOLUMES: usize = 100;

/// The pattern of a mount path, for the OpenAPI document; [`mount_path_error`] implements the rule. Reserved directories
/// and `..` are only in the description.
pub(super) const MOUNT_PATH_PATTERN: &str = r"^/+[^/:\x00-\x1f\x7f-\x9f][^:\x00-\x1f\x7f-\x9f]*$";

/// A volume and its mount path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VolumeMount {
    /// The mount path: an absolute path in the container.
    pub path: String,
    /// What is mounted.
    #[serde(flatten)]
    pub source: VolumeSource,
    /// The key of the task that names it, for errors: `volumes` or `file_mounts`.
    #[serde(skip)]
    pub key: &'static str,
}

/// What a task mounts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum VolumeSource {
    /// A volume that exists.
    Named {
        /// The name of one of the user's volumes, or of a PersistentVolumeClaim.
        volume: String,
        /// The directory in the volume that is mounted; `None` mounts all of it.
        #[serde(skip_serializing_if = "Option::is_none")]
        sub_path: Option<String>,
    },
    /// A volume that is created for each node, and deleted with its pod.
    Ephemeral {
        /// What to create.
        ephemeral: EphemeralVolume,
    },
}

/// A volume that exists as long as a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EphemeralVolume {
    /// The minimum size.
    pub size: Quantity,
    /// The storage class; `None` is the cluster's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_class: Option<String>,
    /// The access mode.
    pub access_mode: &'static str,
    /// Labels of its PersistentVolumeClaim.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

impl VolumeMount {
    /// The sizes of the texts that each pod has a copy of, in bytes.
    pub(super) fn bytes(&self) -> usize {
        let source = match &self.source {
            VolumeSource::Named { sub_path, .. } => sub_path.as_ref().map_or(0, String::len),
            VolumeSource::Ephemeral { ephemeral } => metadata::bytes(&ephemeral.labels),
        };
        self.path.len() + source
    }
}

pub(super) fn parse_volume_mounts(value: &Value, validator: &mut Validator) -> Option<Vec<VolumeMount>> {
    coerce::map(value, validator, MAX_VOLUMES, |path, value, validator| {
        let source = match value {
            Value::Object(_) => parse_volume(value, validator)?,
            _ => named(coerce::string(value, validator)?),
        };
        volume_mount(("volumes", path), source, value, validator)
    })
}

/// Checks the path and the name of a mount that a key of the task names.
pub(super) fn volume_mount(
    (key, path): (&'static str, &str),
    source: VolumeSource,
    value: &Value,
    validator: &mut Validator,
) -> Option<VolumeMount> {
    if matches!(&source, VolumeSource::Named { volume, .. } if volume.is_empty()) {
        return validator.value_error("missing volume name", value);
    }
    if let Some(reason) = mount_path_error(path) {
        return validator.value_error(reason, value);
    }
    let path = path.to_owned();
    Some(VolumeMount { path, source, key })
}

/// All of the volume with this name.
pub(super) fn named(volume: String) -> VolumeSource {
    VolumeSource::Named { volume, sub_path: None }
}

/// Parses `{name: my-data, sub_path: train}` or `{size: 10Gi}`.
fn parse_volume(value: &Value, validator: &mut Validator) -> Option<VolumeSource> {
    let mut fields = Fields::from_value(value, validator)?;
    if fields.has("size") {
        return parse_ephemeral(fields).map(|ephemeral| VolumeSource::Ephemeral { ephemeral });
    }
    let name = fields.required("name", coerce::string);
    let sub_path = fields.optional("sub_path", parse_sub_path);
    fields.deny_unknown_fields(|_| None);
    Some(VolumeSource::Named {
        volume: name?,
        sub_path,
    })
}

/// Parses a volume for one run: `{size: 10Gi, labels: {...}, config: {...}}`, as in SkyPilot.
fn parse_ephemeral(mut fields: Fields<'_, '_>) -> Option<EphemeralVolume> {
    for key in ["name", "sub_path"] {
        if fields.has(key) {
            let reason = "a volume with a `size` exists for one run and has no name; remove one of the two";
            fields.value_error(key, reason);
            return None;
        }
    }
    let size = fields.required("size", parse_size);
    let labels = fields.optional("labels", metadata::parse_labels);
    let config = fields.optional("config", parse_ephemeral_config);
    fields.deny_unknown_fields(|_| None);
    let (storage_class, access_mode) = config.unwrap_or_default();
    Some(EphemeralVolume {
        size: size?,
        storage_class,
        access_mode: access_mode.unwrap_or(ACCESS_MODES[0]),
        labels: labels.unwrap_or_default(),
    })
}

fn parse_ephemeral_config(value: &Value, validator: &mut Validator) -> Option<(Option<String>, Option<&'static str>)> {
    let mut fields = Fields::from_value(value, validator)?;
    let class = fields.optional("storage_class_name", parse_storage_class);
    let mode = fields.optional("access_mode", parse_access_mode);
    fields.deny_unknown_fields(|_| None);
    Some((class, mode))
}

/// Parses a directory in a volume. Source of the rule: SkyPilot's schema of `sub_path`.
fn parse_sub_path(value: &Value, validator: &mut Validator) -> Option<String> {
    let path = coerce::string(value, validator)?;
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'/');
    let is_valid = !path.is_empty()
        && path.len() <= MAX_PATH_BYTES
        && !path.starts_with('/')
        && path.bytes().all(is_allowed)
        && path.split('/').all(|part| part != "..");
    if is_valid {
        return Some(path);
    }
    let reason =
        format!("invalid directory `{path}`; expected a path in the volume, e.g., `train/images`, without `..`");
    validator.value_error(reason, value)
}

/// Why Kubernetes or the container runtime would reject a mount path.
#[must_use]
pub fn mount_path_error(path: &str) -> Option<String> {
    let reason = if !path.starts_with('/') {
        "must start with `/`"
    } else if path.trim_matches('/').is_empty() {
        "must not be the root directory"
    } else if is_reserved_path(path) {
        "must not be in a reserved directory: /proc, /sys, /dev, /etc/k8s-cli"
    } else if path.contains(':') {
        "must not contain `:`"
    } else if path.split('/').any(|part| part == "..") {
        "must not contain `..`"
    } else if path.len() > MAX_PATH_BYTES || path.chars().any(char::is_control) {
        "must not be too long or contain control characters"
    } else {
        return None;
    };
    Some(format!("the mount path {reason}"))
}

/// Whether a container needs the contents of a path. A volume mounted there would break the container.
fn is_reserved_path(path: &str) -> bool {
    const SYSTEM_DIRS: [&str; 2] = ["proc", "sys"];
    let mut parts = path.split('/').filter(|part| !matches!(*part, "" | "."));
    match (parts.next(), parts.next()) {
        (Some(first), _) if SYSTEM_DIRS.contains(&first) => true,
        // Mounting a volume for shared memory is common.
        (Some("dev"), below) => below != Some("shm"),
        (Some("etc"), Some(below)) => below.starts_with("k8s-cli"),
        _ => false,
    }
}
