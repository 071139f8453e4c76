//! Kinds with few defaults and little validation.

use k8s_openapi::api::core::v1::{
    Event, Namespace, NamespaceSpec, NamespaceStatus, Node, ResourceQuota, ServiceAccount,
};
use k8s_openapi::api::storage::v1::StorageClass;
use serde_json::Value;

use super::Admit;
use crate::refusal::{FieldErrors, Refusal};

fn nothing<T>(_: &mut T, _: Option<&T>) {}

fn anything<T>(_: &T, _: Option<&T>, _: &mut FieldErrors) {}

/// `v1/Event`.
pub fn admit_event(admit: Admit) -> Result<Value, Refusal> {
    admit.typed::<Event>(nothing, |event, _, errors| {
        let about = event.involved_object.namespace.as_deref().unwrap_or_default();
        if !about.is_empty() && Some(about) != event.metadata.namespace.as_deref() {
            errors.invalid("involvedObject.namespace", about, "does not match event.namespace");
        }
    })
}

/// `v1/Node`.
pub fn admit_node(admit: Admit) -> Result<Value, Refusal> {
    admit.typed::<Node>(nothing, anything)
}

/// `v1/Namespace`.
pub fn admit_namespace(admit: Admit) -> Result<Value, Refusal> {
    admit.typed::<Namespace>(
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
        anything,
    )
}

/// `v1/ResourceQuota`.
pub fn admit_quota(admit: Admit) -> Result<Value, Refusal> {
    admit.typed::<ResourceQuota>(nothing, |quota, _, errors| {
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
pub fn admit_service_account(admit: Admit) -> Result<Value, Refusal> {
    admit.typed::<ServiceAccount>(nothing, anything)
}

/// `storage.k8s.io/v1/StorageClass`.
pub fn admit_storage_class(admit: Admit) -> Result<Value, Refusal> {
    admit.typed::<StorageClass>(
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
