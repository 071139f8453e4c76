//! Defaults and validation of PersistentVolumeClaims.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimSpec, PersistentVolumeClaimStatus};
use serde_json::Value;

use super::candidate::Candidate;
use crate::field_errors::FieldErrors;
use crate::status_error::StatusError;

/// Storage class of claims that don't name one.
pub(crate) const DEFAULT_STORAGE_CLASS: &str = "standard";

/// Finalizer that keeps a claim while a pod uses it.
pub(crate) const PVC_PROTECTION_FINALIZER: &str = "kubernetes.io/pvc-protection";

const ACCESS_MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];

/// `v1/PersistentVolumeClaim`.
pub(super) fn prepare(candidate: Candidate<'_>) -> Result<Value, StatusError> {
    candidate.prepare_as::<PersistentVolumeClaim>(set_defaults, |claim, old, errors| {
        let spec = claim.spec.clone().unwrap_or_default();
        validate(&spec, errors);
        if let Some(old) = old.and_then(|old| old.spec.as_ref()) {
            validate_update(&spec, old, errors);
        }
    })
}

fn set_defaults(claim: &mut PersistentVolumeClaim, old: Option<&PersistentVolumeClaim>) {
    let spec = claim.spec.get_or_insert_default();
    spec.volume_mode.get_or_insert_with(|| "Filesystem".to_owned());
    if old.is_none() {
        spec.storage_class_name
            .get_or_insert_with(|| DEFAULT_STORAGE_CLASS.to_owned());
        claim.status = Some(PersistentVolumeClaimStatus {
            phase: Some("Pending".to_owned()),
            ..PersistentVolumeClaimStatus::default()
        });
        let finalizers = claim.metadata.finalizers.get_or_insert_default();
        if !finalizers.iter().any(|one| one == PVC_PROTECTION_FINALIZER) {
            finalizers.push(PVC_PROTECTION_FINALIZER.to_owned());
        }
    }
}

fn validate(spec: &PersistentVolumeClaimSpec, errors: &mut FieldErrors) {
    let modes = spec.access_modes.as_deref().unwrap_or_default();
    if modes.is_empty() {
        errors.required("spec.accessModes", "at least 1 access mode is required");
    }
    for mode in modes {
        if !ACCESS_MODES.contains(&mode.as_str()) {
            errors.unsupported("spec.accessModes", mode, &ACCESS_MODES);
        }
    }
    if modes.len() > 1 && modes.iter().any(|mode| mode == "ReadWriteOncePod") {
        let why = "may not use ReadWriteOncePod with other access modes";
        errors.forbidden("spec.accessModes", why);
    }
    let requests = spec
        .resources
        .as_ref()
        .and_then(|resources| resources.requests.as_ref());
    match requests.and_then(|requests| requests.get("storage")) {
        None => errors.required("spec.resources[storage]", ""),
        Some(size) => match quantity::Quantity::parse(&size.0) {
            Some(size) if size.nanos() > 0 => {}
            _ => errors.invalid("spec.resources[storage]", size.0.as_str(), "must be greater than zero"),
        },
    }
    if let Some(mode) = spec
        .volume_mode
        .as_deref()
        .filter(|mode| !["Block", "Filesystem"].contains(mode))
    {
        errors.unsupported("spec.volumeMode", mode, &["Block", "Filesystem"]);
    }
}

fn validate_update(new: &PersistentVolumeClaimSpec, old: &PersistentVolumeClaimSpec, errors: &mut FieldErrors) {
    let comparable = |spec: &PersistentVolumeClaimSpec| PersistentVolumeClaimSpec {
        resources: None,
        volume_name: None,
        ..spec.clone()
    };
    if comparable(new) != comparable(old) {
        let why =
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
        errors.forbidden("spec", why);
    }
    let size = |spec: &PersistentVolumeClaimSpec| {
        let requests = spec.resources.as_ref()?.requests.as_ref()?;
        Some(quantity::Quantity::parse(&requests.get("storage")?.0)?.nanos())
    };
    if size(new) < size(old) {
        let why = "field can not be less than status.capacity";
        errors.forbidden("spec.resources.requests.storage", why);
    }
}
