//! Creates the objects that every cluster has: namespaces, a default storage class, and the cluster node.

use serde_json::json;

use crate::object::{Object, kind_of, time};
use crate::refusal::Refusal;
use crate::resources::Admit;
use crate::resources::claim::DEFAULT_CLASS;
use crate::store::Transaction;

/// Creates missing objects, and updates the cluster node: `node` builds it from its stored state, since the machine may
/// have changed since the last start.
pub(crate) fn furnish(
    transaction: &mut Transaction<'_>,
    node_name: &str,
    node: impl FnOnce(&mut Transaction<'_>, Option<Object>) -> Object,
) -> Result<(), Refusal> {
    for name in ["default", "kube-system"] {
        make_once(transaction, "namespaces", json!({"metadata": {"name": name}}))?;
    }
    let default = json!({"storageclass.kubernetes.io/is-default-class": "true"});
    let class = json!({"metadata": {"name": DEFAULT_CLASS, "annotations": default}, "provisioner": "k8s-cli/folder"});
    make_once(transaction, "storageclasses", class)?;
    let old = transaction.get(kind_of("nodes"), "", node_name)?;
    let is_new = old.is_none();
    let node = node(transaction, old);
    if is_new {
        transaction.create(node).map(drop)
    } else {
        transaction.update(node).map(drop)
    }
}

/// Creates an object unless it exists, so that users' changes to it survive a restart.
fn make_once(transaction: &mut Transaction<'_>, plural: &'static str, value: serde_json::Value) -> Result<(), Refusal> {
    let kind = kind_of(plural);
    let mut object = Object::new(kind, value);
    if transaction.get(kind, "", object.name())?.is_some() {
        return Ok(());
    }
    object.set("uid", transaction.random.uid());
    object.set("creationTimestamp", time(transaction.now));
    let value = (kind.admit)(Admit { object, old: None })?;
    transaction.create(Object::new(kind, value)).map(drop)
}
