//! Creates the objects that every cluster has: namespaces, a default storage class, and the cluster node.

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;

use crate::object::{Kind, Object, ObjectType, format_time};
use crate::resources::{DEFAULT_STORAGE_CLASS, prepare_for_create};
use crate::status_error::StatusError;
use crate::store::Transaction;

/// Creates missing objects, and updates the cluster node: `node` builds it from its stored state, since the machine may
/// have changed since the last start.
pub(crate) fn bootstrap(
    transaction: &mut Transaction<'_>,
    node_name: &str,
    node: impl FnOnce(&mut Transaction<'_>, Option<Object>) -> serde_json::Result<Object>,
) -> Result<(), StatusError> {
    for name in ["default", "kube-system"] {
        let namespace = Namespace {
            metadata: named(name),
            ..Namespace::default()
        };
        create_if_missing(transaction, &namespace)?;
    }
    let is_default = (
        "storageclass.kubernetes.io/is-default-class".to_owned(),
        "true".to_owned(),
    );
    let class = StorageClass {
        metadata: ObjectMeta {
            annotations: Some([is_default].into()),
            ..named(DEFAULT_STORAGE_CLASS)
        },
        provisioner: "k8s-cli/folder".to_owned(),
        ..StorageClass::default()
    };
    create_if_missing(transaction, &class)?;
    let old = transaction.get(Kind::Node, "", node_name)?;
    let is_new = old.is_none();
    let node = node(transaction, old)?;
    if is_new {
        transaction.create(node).map(drop)
    } else {
        transaction.update(node).map(drop)
    }
}

fn named(name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        ..ObjectMeta::default()
    }
}

/// Creates an object unless it exists, so that users' changes to it survive a restart.
fn create_if_missing<T: ObjectType + Serialize>(
    transaction: &mut Transaction<'_>,
    object: &T,
) -> Result<(), StatusError> {
    let mut object = Object::encode(object)?;
    if transaction.get(object.kind, "", object.name())?.is_some() {
        return Ok(());
    }
    object.set("uid", transaction.random.uid());
    object.set("creationTimestamp", format_time(transaction.now));
    transaction.create(prepare_for_create(object)?).map(drop)
}
