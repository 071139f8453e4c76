//! The definition and the status of a volume.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::validation::{self, Cursor, ErrorDetail, Object};
use crate::{Name, Quantity};

/// Kubernetes' access modes. The first one is the default.
/// Source: <https://kubernetes.io/docs/concepts/storage/persistent-volumes/#access-modes>.
pub const ACCESS_MODES: [&str; 4] = ["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"];

/// The maximum number of access modes in a definition; duplicates are allowed.
pub(crate) const MAX_ACCESS_MODES: usize = 16;

/// The pattern of a storage class name, an RFC 1123 subdomain, for the OpenAPI document.
pub(crate) const STORAGE_CLASS_PATTERN: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";

/// A valid definition of a volume.
#[derive(Debug, Clone, PartialEq)]
pub struct VolumeDefinition {
    /// The name of the volume.
    pub name: Name,
    /// The minimum size.
    pub size: Quantity,
    /// The storage class; `None` means the default of the cluster.
    pub storage_class: Option<String>,
    /// The access modes: at least one of [`ACCESS_MODES`].
    pub access_modes: Vec<&'static str>,
}

impl VolumeDefinition {
    /// Parses a definition from a request body, and reports every error in it.
    pub fn parse(body: &Value) -> Result<Self, Vec<ErrorDetail>> {
        validation::parse(body, "body", |value, cursor| {
            let mut object = Object::open(value, cursor)?;
            let name = object.required("name", Name::parse);
            let size = object.required("size", size);
            let storage_class = object.optional("storage_class", storage_class);
            let access_modes = object.optional("access_modes", access_modes);
            object.finish(&["type", "infra", "use_existing", "labels", "config"]);
            Some(Self {
                name: name?,
                size: size?,
                storage_class,
                access_modes: access_modes.unwrap_or_else(|| vec![ACCESS_MODES[0]]),
            })
        })
    }
}

fn size(value: &Value, cursor: &mut Cursor) -> Option<Quantity> {
    let text = validation::string(value, cursor)?;
    match Quantity::size(&text) {
        Ok(size) => Some(size),
        Err(reason) => cursor.refuse(reason, value),
    }
}

fn storage_class(value: &Value, cursor: &mut Cursor) -> Option<String> {
    let name = validation::string(value, cursor)?;
    let label = |label: &str| {
        label.starts_with(|first: char| first.is_ascii_lowercase() || first.is_ascii_digit())
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    if name.len() <= crate::name::MAX_LENGTH && name.split('.').all(label) {
        return Some(name);
    }
    cursor.refuse(format!("invalid storage class name `{name}`"), value)
}

fn access_modes(value: &Value, cursor: &mut Cursor) -> Option<Vec<&'static str>> {
    let mut modes = validation::list(value, cursor, MAX_ACCESS_MODES, |value, cursor| {
        let text = validation::string(value, cursor)?;
        match ACCESS_MODES.iter().find(|mode| **mode == text) {
            Some(mode) => Some(*mode),
            None => cursor.refuse(
                format!(
                    "unsupported access mode `{text}`; expected one of {}",
                    ACCESS_MODES.join(", ")
                ),
                value,
            ),
        }
    })?;
    if modes.is_empty() {
        return cursor.report_with(
            "too_short",
            "List should have at least 1 item after validation, not 0",
            value,
            serde_json::json!({"field_type": "List", "min_length": 1, "actual_length": 0}),
        );
    }
    // Kubernetes has the same rule. Checking it here reports it with the path of the field.
    if modes.len() > 1 && modes.contains(&"ReadWriteOncePod") {
        return cursor.refuse("`ReadWriteOncePod` cannot be combined with other access modes", value);
    }
    modes.sort_unstable();
    modes.dedup();
    Some(modes)
}

/// Status of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VolumeStatus {
    /// ID of the volume.
    pub volume_id: String,
    /// Name of the volume.
    pub name: String,
    /// Requested size.
    pub size: String,
    /// Storage class, once Kubernetes has chosen one.
    pub storage_class: Option<String>,
    /// Access modes.
    pub access_modes: Vec<String>,
    /// `Pending`, `Bound`, `Lost`, or `Terminating` (deleted, but still in use by a task).
    pub status: String,
    /// Creation time (RFC 3339, UTC).
    pub created_at: String,
    /// Name of the user who owns the volume.
    pub username: String,
    /// Kubernetes object of the volume.
    pub metadata: VolumeMetadata,
}

/// Kubernetes object of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VolumeMetadata {
    /// Name of the PersistentVolumeClaim.
    pub pvc_name: String,
    /// Namespace of the PersistentVolumeClaim.
    pub namespace: String,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::VolumeDefinition;

    fn kinds(body: &serde_json::Value) -> Vec<&'static str> {
        match VolumeDefinition::parse(body) {
            Ok(_) => Vec::new(),
            Err(errors) => errors.iter().map(|error| error.kind).collect(),
        }
    }

    #[test]
    fn a_null_means_the_default_and_an_empty_list_does_not() {
        let volume = VolumeDefinition::parse(&json!({"name": "v", "size": "1Gi", "access_modes": null})).unwrap();
        assert_eq!(volume.access_modes, ["ReadWriteOnce"]);
        assert_eq!(
            kinds(&json!({"name": "v", "size": "1Gi", "access_modes": []})),
            ["too_short"]
        );
    }

    #[test]
    fn what_kubernetes_would_refuse_is_refused() {
        for body in [
            json!({"name": "v", "size": "big"}),
            json!({"name": "v", "size": "0"}),
            json!({"name": "a b", "size": "1Gi"}),
            json!({"name": "v", "size": "1Gi", "storage_class": "Not A Class"}),
            json!({"name": "v", "size": "1Gi", "storage_class": ""}),
            json!({"name": "v", "size": "1Gi", "access_modes": ["Sometimes"]}),
            json!({"name": "v", "size": "1Gi", "access_modes": ["ReadWriteOncePod", "ReadWriteMany"]}),
        ] {
            assert_eq!(kinds(&body), ["value_error"], "{body}");
        }
    }
}
