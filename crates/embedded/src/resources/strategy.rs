//! What differs by kind: how an object is prepared for the store, and whether the controllers have work to do on it. These
//! are the strategies in `k8s.io/kubernetes/pkg/registry`.

use super::candidate::Candidate;
use super::pvc::PVC_PROTECTION_FINALIZER;
use super::{config_data, job, pod, pvc, service, simple};
use crate::object::{Kind, Object};
use crate::status_error::StatusError;

/// Prepares a new object; its system fields must be set.
pub(crate) fn prepare_for_create(object: Object) -> Result<Object, StatusError> {
    prepare(Candidate { object, old: None })
}

/// Prepares the new state of the stored object `old`.
pub(crate) fn prepare_for_update(object: Object, old: &Object) -> Result<Object, StatusError> {
    prepare(Candidate { object, old: Some(old) })
}

fn prepare(candidate: Candidate<'_>) -> Result<Object, StatusError> {
    let kind = candidate.object.kind;
    let value = match kind {
        Kind::Job => job::prepare(candidate),
        Kind::Pod => pod::prepare(candidate),
        Kind::PersistentVolumeClaim => pvc::prepare(candidate),
        Kind::ConfigMap => config_data::prepare_config_map(candidate),
        Kind::Secret => config_data::prepare_secret(candidate),
        Kind::Service => service::prepare(candidate),
        Kind::Event => simple::prepare_event(candidate),
        Kind::Node => simple::prepare_node(candidate),
        Kind::Namespace => simple::prepare_namespace(candidate),
        Kind::ResourceQuota => simple::prepare_quota(candidate),
        Kind::ServiceAccount => simple::prepare_service_account(candidate),
        Kind::StorageClass => simple::prepare_storage_class(candidate),
    };
    Ok(Object::new(kind, value?))
}

/// Whether the controllers still have work to do on an object.
pub(crate) fn needs_reconcile(object: &Object) -> bool {
    object.is_deleting()
        || match object.kind {
            Kind::Job => job::needs_reconcile(object),
            Kind::Pod => !pod::is_terminal(object),
            Kind::PersistentVolumeClaim => {
                object.phase() != "Bound" || !object.finalizers().contains(&PVC_PROTECTION_FINALIZER)
            }
            Kind::ResourceQuota => true,
            _ => false,
        }
}
