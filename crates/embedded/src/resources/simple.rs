//! Kinds with few defaults and little validation.

use k8s_openapi::api::core::v1::{
    Event, Namespace, NamespaceSpec, NamespaceStatus, Node, ResourceQuota, ServiceAccount,
};
use k8s_openapi::api::storage::v1::StorageClass;
use serde_json::Value;

use super::candidate::Candidate;
use crate::field_errors::FieldErrors;
use crate::status_error::StatusError;

fn no_defaults<T>(_: &mut T, _: Option<&T>) {}

fn no_validation<T>(_: &T, _: Option<&T>, _: &mut FieldErrors) {}

/// `v1/Event`.
pub(super) fn prepare_event(candidate: Candidate<'_>) -> Result<Value, StatusError> {
    candidate.prepare_as::<Event>(no_defaults, |event, _, errors| {
        let about = event.involved_object.namespace.as_deref().unwrap_or_default();
        if !about.is_empty() && Some(about) != event.metadata.namespace.as_deref() {
            errors.invalid("involvedObject.namespace", about, "does not match event.namespace");
        }
    })
}

/// `v1/Node`.
pub(super) fn prepare_node(candidate: Candidate<'_>) -> Result<Value, StatusError> {
    candidate.prepare_as::<Node>(no_defaults, no_validation)
}

/// `v1/Namespace`.
pub(super) fn prepare_namespace(candidate: Candidate<'_>) -> Result<Value, StatusError> {
    candidate.prepare_as::<Namespace>(
        |namespace, _| {
            namespace.spec.get_or_insert_with(|| NamespaceSpec {
                finalizers: Some(vec!["kubernetes".to_owned()]),
            });
            namespace.status.get_or_insert_with(|| NamespaceStatus {
                phase: Some("Active".to_owned()),
                conditions: None,
            });
            let name = namespace.metadata.name.clone().unwrap_or_default();
            let labels = namespace.metadata.labels.get_or_insert_default();
            labels.insert("kubernetes.io/metadata.name".to_owned(), name);
        },
        no_validation,
    )
}

/// `v1/ResourceQuota`.
pub(super) fn prepare_quota(candidate: Candidate<'_>) -> Result<Value, StatusError> {
    candidate.prepare_as::<ResourceQuota>(no_defaults, |quota, _, errors| {
        let hard = quota.spec.as_ref().and_then(|spec| spec.hard.as_ref());
        for (name, amount) in hard.into_iter().flatten() {
            if quantity::Quantity::parse(&amount.0).is_none_or(|amount| amount.nanos() < 0) {
                let why = "must be greater than or equal to 0";
                errors.invalid(format!("spec.hard[{name}]"), amount.0.as_str(), why);
            }
        }
    })
}

/// `v1/ServiceAccount`.
pub(super) fn prepare_service_account(candidate: Candidate<'_>) -> Result<Value, StatusError> {
    candidate.prepare_as::<ServiceAccount>(no_defaults, no_validation)
}

/// `storage.k8s.io/v1/StorageClass`.
pub(super) fn prepare_storage_class(candidate: Candidate<'_>) -> Result<Value, StatusError> {
    candidate.prepare_as::<StorageClass>(
        |class, _| {
            class.reclaim_policy.get_or_insert_with(|| "Delete".to_owned());
            class.volume_binding_mode.get_or_insert_with(|| "Immediate".to_owned());
        },
        |class, _, errors| {
            if class.provisioner.is_empty() {
                errors.required("provisioner", "");
            }
        },
    )
}
