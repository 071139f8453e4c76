//! Parses `volumes`, the volumes of a task and their mount paths.

use serde::Serialize;
use serde_json::Value;

use super::scripts::MAX_PATH_BYTES;
use crate::validation::{Fields, Validator, coerce};

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
    /// The name of one of the user's volumes, or of a PersistentVolumeClaim.
    pub volume: String,
    /// The directory in the volume that is mounted; `None` mounts all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sub_path: Option<String>,
}

pub(super) fn parse_volume_mounts(value: &Value, validator: &mut Validator) -> Option<Vec<VolumeMount>> {
    coerce::map(value, validator, MAX_VOLUMES, |path, value, validator| {
        let (volume, sub_path) = match value {
            Value::Object(_) => parse_volume(value, validator)?,
            _ => (coerce::string(value, validator)?, None),
        };
        volume_mount(path, volume, sub_path, value, validator)
    })
}

/// Checks the path and the name of a mount.
pub(super) fn volume_mount(
    path: &str,
    volume: String,
    sub_path: Option<String>,
    value: &Value,
    validator: &mut Validator,
) -> Option<VolumeMount> {
    if volume.is_empty() {
        return validator.value_error("missing volume name", value);
    }
    if let Some(reason) = mount_path_error(path) {
        return validator.value_error(reason, value);
    }
    let path = path.to_owned();
    Some(VolumeMount { path, volume, sub_path })
}

/// Parses `{name: my-data, sub_path: train}`.
fn parse_volume(value: &Value, validator: &mut Validator) -> Option<(String, Option<String>)> {
    let mut fields = Fields::from_value(value, validator)?;
    if fields.has("size") {
        fields.value_error(
            "size",
            "a volume for one run is not supported yet; create one with `k8s-cli volumes create NAME SIZE`",
        );
        return None;
    }
    let name = fields.required("name", coerce::string);
    let sub_path = fields.optional("sub_path", parse_sub_path);
    fields.deny_unknown_fields(|_| None);
    Some((name?, sub_path))
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
