//! The namespace controller: creates default service accounts, and empties deleted namespaces.

use serde_json::json;

use super::delete::{Options, delete, settle};
use crate::object::{KINDS, Object, kind_of, time};
use crate::refusal::Refusal;
use crate::store::Transaction;

/// Creates the default service account, or, if the namespace is being deleted, deletes its contents.
pub(super) fn reconcile(transaction: &mut Transaction<'_>, namespace: &Object) -> Result<(), Refusal> {
    if !namespace.is_deleting() {
        let accounts = kind_of("serviceaccounts");
        if transaction.get(accounts, namespace.name(), "default")?.is_none() {
            let mut account = Object::new(
                accounts,
                json!({"metadata": {"name": "default", "namespace": namespace.name()}}),
            );
            account.set("uid", transaction.random.uid());
            account.set("creationTimestamp", time(transaction.now));
            transaction.create(account)?;
        }
        return Ok(());
    }
    for kind in KINDS.iter().filter(|kind| kind.namespaced) {
        for object in transaction.list(kind, namespace.name())? {
            if !object.is_deleting() {
                delete(transaction, object, Options::default())?;
            }
        }
    }
    emptied(transaction, namespace.name())
}

/// Removes a namespace that is being deleted once it is empty.
pub(super) fn emptied(transaction: &mut Transaction<'_>, name: &str) -> Result<(), Refusal> {
    let namespaces = kind_of("namespaces");
    let Some(mut namespace) = transaction.get(namespaces, "", name)?.filter(Object::is_deleting) else {
        return Ok(());
    };
    for kind in KINDS.iter().filter(|kind| kind.namespaced) {
        if transaction.count(kind, name)? > 0 {
            return Ok(());
        }
    }
    namespace.value["spec"]["finalizers"] = json!([]);
    let namespace = transaction.update(namespace)?;
    settle(transaction, namespace).map(drop)
}
