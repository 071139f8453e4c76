//! Resource quotas on the number of objects.

use serde_json::{Map, Value, json};

use crate::object::{Kind, Object, kind_of};
use crate::refusal::Refusal;
use crate::store::Transaction;

/// The names under which a quota limits a kind.
fn names(kind: &Kind) -> [String; 2] {
    [format!("count/{}", kind.resource()), kind.plural.to_owned()]
}

/// Rejects an object that would exceed a quota.
pub fn check(transaction: &Transaction<'_>, object: &Object) -> Result<(), Refusal> {
    if !object.kind.namespaced || object.kind.plural == "events" {
        return Ok(());
    }
    for quota in transaction.list(kind_of("resourcequotas"), object.namespace())? {
        for name in names(object.kind) {
            let Some(hard) = quota.value["spec"]["hard"][&name].as_str() else {
                continue;
            };
            let limit = quantity::Quantity::parse(hard).map_or(0, |limit| limit.nanos() / quantity::NANOS_PER_UNIT);
            let used = used(transaction, object.kind, object.namespace(), &name)?;
            if i128::from(used) + 1 > limit {
                let why = format!(
                    "exceeded quota: {}, requested: {name}=1, used: {name}={used}, limited: {name}={hard}",
                    quota.name()
                );
                return Err(Refusal::forbidden(object.kind, object.name(), &why));
            }
        }
    }
    Ok(())
}

/// As in Kubernetes, `pods` counts pods that have not finished, and `count/pods` all of them.
fn used(transaction: &Transaction<'_>, kind: &'static Kind, namespace: &str, name: &str) -> Result<i64, Refusal> {
    if name == "pods" {
        let active = transaction.active(kind)?;
        let here = active
            .iter()
            .filter(|pod| pod.namespace() == namespace && (kind.is_active)(&pod.value));
        return Ok(i64::try_from(here.count()).unwrap_or(i64::MAX));
    }
    transaction.count(kind, namespace)
}

/// Updates the quotas that limit the kind of a created, deleted, or finished object.
pub(super) fn count(transaction: &mut Transaction<'_>, object: &Object) -> Result<(), Refusal> {
    if !object.kind.namespaced || object.kind.plural == "resourcequotas" {
        return Ok(());
    }
    for quota in transaction.list(kind_of("resourcequotas"), object.namespace())? {
        let counts = names(object.kind)
            .iter()
            .any(|name| quota.value["spec"]["hard"].get(name).is_some());
        if counts {
            reconcile(transaction, quota)?;
        }
    }
    Ok(())
}

/// Updates the usage in a quota's status.
pub(super) fn reconcile(transaction: &mut Transaction<'_>, mut quota: Object) -> Result<(), Refusal> {
    let hard = quota.value["spec"]["hard"].as_object().cloned().unwrap_or_default();
    let mut counted = Map::new();
    for kind in &crate::object::KINDS {
        for name in names(kind).iter().filter(|name| hard.contains_key(*name)) {
            let used = used(transaction, kind, quota.namespace(), name)?;
            counted.insert(name.clone(), used.to_string().into());
        }
    }
    quota.value["status"] = json!({"hard": hard, "used": Value::Object(counted)});
    transaction.update(quota).map(drop)
}
