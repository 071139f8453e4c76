//! Resource quotas on the number of objects.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ResourceQuotaSpec, ResourceQuotaStatus};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::object::{Kind, Object};
use crate::resources::is_terminal;
use crate::status_error::StatusError;
use crate::store::Transaction;

/// The names under which a quota limits a kind.
fn quota_names(kind: Kind) -> [String; 2] {
    [format!("count/{}", kind.resource()), kind.plural().to_owned()]
}

fn hard_limits(quota: &Object) -> Result<BTreeMap<String, Quantity>, StatusError> {
    Ok(quota.spec::<ResourceQuotaSpec>()?.hard.unwrap_or_default())
}

/// Rejects an object that would exceed a quota.
pub(crate) fn check_quota(transaction: &Transaction<'_>, object: &Object) -> Result<(), StatusError> {
    if !object.kind.is_namespaced() || object.kind == Kind::Event {
        return Ok(());
    }
    for quota in transaction.list(Kind::ResourceQuota, object.namespace())? {
        let limits = hard_limits(&quota)?;
        for name in quota_names(object.kind) {
            let Some(Quantity(hard)) = limits.get(&name) else {
                continue;
            };
            let limit = quantity::Quantity::parse(hard).map_or(0, |limit| limit.nanos() / quantity::NANOS_PER_UNIT);
            let used = count_used(transaction, object.kind, object.namespace(), &name)?;
            if i128::from(used) + 1 > limit {
                let why = format!(
                    "exceeded quota: {}, requested: {name}=1, used: {name}={used}, limited: {name}={hard}",
                    quota.name()
                );
                return Err(StatusError::forbidden(object.kind, object.name(), &why));
            }
        }
    }
    Ok(())
}

/// As in Kubernetes, `pods` counts pods that have not finished, and `count/pods` all of them.
fn count_used(transaction: &Transaction<'_>, kind: Kind, namespace: &str, name: &str) -> Result<i64, StatusError> {
    if name == "pods" {
        let active = transaction.list_active(kind)?;
        let here = active
            .iter()
            .filter(|pod| pod.namespace() == namespace && !is_terminal(pod));
        return Ok(i64::try_from(here.count()).unwrap_or(i64::MAX));
    }
    transaction.count(kind, namespace)
}

/// Updates the quotas that limit the kind of a created, deleted, or finished object.
pub(super) fn update_quotas(transaction: &mut Transaction<'_>, object: &Object) -> Result<(), StatusError> {
    if !object.kind.is_namespaced() || object.kind == Kind::ResourceQuota {
        return Ok(());
    }
    for quota in transaction.list(Kind::ResourceQuota, object.namespace())? {
        let limits = hard_limits(&quota)?;
        let counts = quota_names(object.kind).iter().any(|name| limits.contains_key(name));
        if counts {
            reconcile(transaction, quota)?;
        }
    }
    Ok(())
}

/// Updates the usage in a quota's status.
pub(super) fn reconcile(transaction: &mut Transaction<'_>, mut quota: Object) -> Result<(), StatusError> {
    let hard = hard_limits(&quota)?;
    let mut counted = BTreeMap::new();
    for kind in Kind::ALL {
        for name in quota_names(kind).iter().filter(|name| hard.contains_key(*name)) {
            let used = count_used(transaction, kind, quota.namespace(), name)?;
            counted.insert(name.clone(), Quantity(used.to_string()));
        }
    }
    quota.set_status(&ResourceQuotaStatus {
        hard: Some(hard),
        used: Some(counted),
    })?;
    transaction.update(quota).map(drop)
}
