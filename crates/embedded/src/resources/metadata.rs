//! Validates labels, annotations, and finalizers, with kube-apiserver's messages.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::field_errors::FieldErrors;
use crate::object::names;

pub(crate) fn validate_finalizers(names: &[&str], errors: &mut FieldErrors) {
    for (index, name) in names.iter().enumerate() {
        let field = format!("metadata.finalizers[{index}]");
        if let Err(why) = names::validate_qualified_name(name) {
            errors.invalid(field, *name, &why);
        } else if !name.contains('/') && !["kubernetes", "orphan", "foregroundDeletion"].contains(name) {
            errors.invalid(
                field,
                *name,
                "name is neither a standard finalizer name nor is it fully qualified",
            );
        }
    }
}

/// Maximum total size of an object's annotations in bytes; Kubernetes' limit.
const MAX_ANNOTATIONS: usize = 256 * 1024;

/// Validates labels and annotations.
pub(crate) fn validate_metadata(metadata: &ObjectMeta, path: &str, errors: &mut FieldErrors) {
    for (key, value) in metadata.labels.iter().flatten() {
        if let Err(why) = names::validate_qualified_name(key) {
            errors.invalid(format!("{path}.labels"), key.as_str(), &why);
        }
        if let Err(why) = names::validate_label_value(value) {
            errors.invalid(format!("{path}.labels"), value.as_str(), why);
        }
    }
    for (index, owner) in metadata.owner_references.iter().flatten().enumerate() {
        for (name, value) in [
            ("apiVersion", &owner.api_version),
            ("kind", &owner.kind),
            ("name", &owner.name),
            ("uid", &owner.uid),
        ] {
            if value.is_empty() {
                let why = if name == "apiVersion" {
                    "version must not be empty"
                } else {
                    "must not be empty"
                };
                errors.invalid(format!("{path}.ownerReferences[{index}].{name}"), value.as_str(), why);
            }
        }
    }
    let mut size = 0;
    for (key, value) in metadata.annotations.iter().flatten() {
        // As in kube-apiserver, annotation keys are qualified names whose case doesn't matter.
        if let Err(why) = names::validate_qualified_name(&key.to_lowercase()) {
            errors.invalid(format!("{path}.annotations"), key.as_str(), &why);
        }
        size += key.len() + value.len();
    }
    if size > MAX_ANNOTATIONS {
        errors.too_long(format!("{path}.annotations"), MAX_ANNOTATIONS);
    }
}
