//! Creates the objects that every cluster has: namespaces, a default storage class, and the cluster node.

use serde_json::json;

use crate::object::{Kind, Object, format_time};
use crate::resources::{DEFAULT_STORAGE_CLASS, prepare_for_create};
use crate::status_error::StatusError;
use crate::store::Transaction;

/// Creates missing objects, and updates the cluster node: `node` builds it from its stored state, since the machine may
/// have changed since the last start.
pub(crate) fn bootstrap(
    transaction: &mut Transaction<'_>,
    node_name: &str,
    node: impl FnOnce(&mut Transaction<'_>, Option<Object>) -> Object,
) -> Result<(), StatusError> {
    for name in ["default", "kube-system"] {
        create_if_missing(transaction, Kind::Namespace, json!({"metadata": {"name": name}}))?;
    }
    let default = json!({"storageclass.kubernetes.io/is-default-class": "true"});
    let class =
        json!({"metadata": {"name": DEFAULT_STORAGE_CLASS, "annotations": default}, "provisioner": "k8s-cli/folder"});
    create_if_missing(transaction, Kind::StorageClass, class)?;
    let old = transaction.get(Kind::Node, "", node_name)?;
    let is_new = old.is_none();
    let node = node(transaction, old);
    if is_new {
        transaction.create(node).map(drop)
    } else {
        transaction.update(node).map(drop)
    }
}

/// Creates an object unless it exists, so that users' changes to it survive a restart.
fn create_if_missing(
    transaction: &mut Transaction<'_>,
    kind: Kind,
    value: serde_json::Value,
) -> Result<(), StatusError> {
    let mut object = Object::new(kind, value);
    if transaction.get(kind, "", object.name())?.is_some() {
        return Ok(());
    }
    object.set("uid", transaction.random.uid());
    object.set("creationTimestamp", format_time(transaction.now));
    transaction.create(prepare_for_create(object)?).map(drop)
}
