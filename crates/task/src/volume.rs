//! The definition of a volume.

use serde_json::Value;
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::name::Name;
use crate::quantity::Quantity;
use crate::text_schema::text_schema;
use crate::validation::{self, ErrorDetail, Fields, Validator, coerce};

/// Kubernetes' access modes. The first one is the default.
/// Source: <https://kubernetes.io/docs/concepts/storage/persistent-volumes/#access-modes>.
pub const ACCESS_MODES: [&str; 4] = ["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"];

/// One of [`ACCESS_MODES`], in the OpenAPI document only.
pub(crate) enum AccessMode {}

impl PartialSchema for AccessMode {
    fn schema() -> RefOr<Schema> {
        text_schema("Access mode of a volume, as in Kubernetes.", &ACCESS_MODES)
    }
}

impl ToSchema for AccessMode {}

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

/// Keys of SkyPilot's volume file that are not supported.
const SKYPILOT_KEYS: [&str; 5] = ["type", "infra", "use_existing", "labels", "config"];

impl VolumeDefinition {
    /// Parses a definition from a request body, and reports every error in it.
    pub fn parse(body: &Value) -> Result<Self, Vec<ErrorDetail>> {
        validation::validate(body, "body", |value, validator| {
            let mut fields = Fields::from_value(value, validator)?;
            let name = fields.required("name", Name::from_value);
            let size = fields.required("size", parse_size);
            let storage_class = fields.optional("storage_class", parse_storage_class);
            let access_modes = fields.optional("access_modes", parse_access_modes);
            fields.deny_unknown_fields(|key| {
                SKYPILOT_KEYS
                    .contains(&key)
                    .then_some("this key of SkyPilot is not supported")
            });
            Some(Self {
                name: name?,
                size: size?,
                storage_class,
                access_modes: access_modes.unwrap_or_else(|| vec![ACCESS_MODES[0]]),
            })
        })
    }
}

pub(crate) fn parse_size(value: &Value, validator: &mut Validator) -> Option<Quantity> {
    let text = coerce::string(value, validator)?;
    match Quantity::parse_size(&text) {
        Ok(size) => Some(size),
        Err(reason) => validator.value_error(reason, value),
    }
}

pub(crate) fn parse_storage_class(value: &Value, validator: &mut Validator) -> Option<String> {
    let name = coerce::string(value, validator)?;
    let is_label = |label: &str| {
        label.starts_with(|first: char| first.is_ascii_lowercase() || first.is_ascii_digit())
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    if name.len() <= crate::name::MAX_LENGTH && name.split('.').all(is_label) {
        return Some(name);
    }
    validator.value_error(format!("invalid storage class name `{name}`"), value)
}

pub(crate) fn parse_access_mode(value: &Value, validator: &mut Validator) -> Option<&'static str> {
    let text = coerce::string(value, validator)?;
    match ACCESS_MODES.iter().find(|mode| **mode == text) {
        Some(mode) => Some(*mode),
        None => validator.value_error(
            format!(
                "unsupported access mode `{text}`; expected one of {}",
                ACCESS_MODES.join(", ")
            ),
            value,
        ),
    }
}

fn parse_access_modes(value: &Value, validator: &mut Validator) -> Option<Vec<&'static str>> {
    let mut modes = coerce::list(value, validator, MAX_ACCESS_MODES, parse_access_mode)?;
    if modes.is_empty() {
        return validator.push_error_with_context(
            "too_short",
            "List should have at least 1 item after validation, not 0",
            value,
            serde_json::json!({"field_type": "List", "min_length": 1, "actual_length": 0}),
        );
    }
    // Kubernetes has the same rule. Checking it here reports it with the path of the field.
    if modes.len() > 1 && modes.contains(&"ReadWriteOncePod") {
        return validator.value_error("`ReadWriteOncePod` cannot be combined with other access modes", value);
    }
    modes.sort_unstable();
    modes.dedup();
    Some(modes)
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
