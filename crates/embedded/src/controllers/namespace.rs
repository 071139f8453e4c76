//! The namespace controller: creates default service accounts, and empties deleted namespaces.

use k8s_openapi::api::core::v1::{NamespaceSpec, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

use super::deletion::{DeleteOptions, delete_object, remove_if_finalized};
use crate::object::{Kind, Object};
use crate::status_error::StatusError;
use crate::store::Transaction;

/// Creates the default service account, or, if the namespace is being deleted, deletes its contents.
pub(super) fn reconcile(transaction: &mut Transaction<'_>, namespace: &Object) -> Result<(), StatusError> {
    if !namespace.is_deleting() {
        if transaction
            .get(Kind::ServiceAccount, namespace.name(), "default")?
            .is_none()
        {
            let account = ServiceAccount {
                metadata: ObjectMeta {
                    name: Some("default".to_owned()),
                    namespace: Some(namespace.name().to_owned()),
                    uid: Some(transaction.random.uid()),
                    creation_timestamp: Some(Time(transaction.now)),
                    ..ObjectMeta::default()
                },
                ..ServiceAccount::default()
            };
            transaction.create(Object::encode(&account)?)?;
        }
        return Ok(());
    }
    for kind in Kind::ALL.into_iter().filter(|kind| kind.is_namespaced()) {
        for object in transaction.list(kind, namespace.name())? {
            if !object.is_deleting() {
                delete_object(transaction, object, DeleteOptions::default())?;
            }
        }
    }
    remove_if_empty(transaction, namespace.name())
}

/// Removes a namespace that is being deleted once it is empty.
pub(super) fn remove_if_empty(transaction: &mut Transaction<'_>, name: &str) -> Result<(), StatusError> {
    let Some(mut namespace) = transaction.get(Kind::Namespace, "", name)?.filter(Object::is_deleting) else {
        return Ok(());
    };
    for kind in Kind::ALL.into_iter().filter(|kind| kind.is_namespaced()) {
        if transaction.count(kind, name)? > 0 {
            return Ok(());
        }
    }
    namespace.set_spec(&NamespaceSpec {
        finalizers: Some(Vec::new()),
    })?;
    let namespace = transaction.update(namespace)?;
    remove_if_finalized(transaction, namespace).map(drop)
}
