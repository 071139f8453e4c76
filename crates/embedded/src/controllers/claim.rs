//! The PersistentVolumeClaim controller: binds claims, and keeps them while pods use them.

use serde_json::json;

use super::delete::settle;
use super::event::{Kind as EventKind, record};
use super::schedule::Scheduler;
use crate::object::{Object, kind_of};
use crate::refusal::Refusal;
use crate::resources::claim::PROTECTION;
use crate::store::Transaction;

/// Binds a claim if its storage class exists; removes one that is being deleted once no pod uses it.
pub(super) fn reconcile(
    transaction: &mut Transaction<'_>,
    scheduler: &Scheduler,
    mut claim: Object,
) -> Result<(), Refusal> {
    if claim.is_deleting() {
        if claim.finalizers().contains(&PROTECTION) && !scheduler.uses(claim.namespace(), claim.name()) {
            claim.remove_finalizer(PROTECTION);
            let claim = transaction.update(claim)?;
            settle(transaction, claim)?;
        }
        return Ok(());
    }
    if claim.value["status"]["phase"] == "Bound" {
        return Ok(());
    }
    let class = claim.value["spec"]["storageClassName"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    if transaction.get(kind_of("storageclasses"), "", &class)?.is_none() {
        let message = format!("storageclass.storage.k8s.io \"{class}\" not found");
        return record(
            transaction,
            &claim,
            EventKind::Warning,
            "persistentvolume-controller",
            "ProvisioningFailed",
            &message,
        );
    }
    // There is no PersistentVolume object; the node creates the claim's directory.
    claim.value["spec"]["volumeName"] = format!("pvc-{}", claim.uid()).into();
    claim.value["status"] = json!({
        "phase": "Bound",
        "accessModes": claim.value["spec"]["accessModes"],
        "capacity": {"storage": claim.value["spec"]["resources"]["requests"]["storage"]},
    });
    transaction.update(claim).map(drop)
}

/// Removes claims whose deletion waited for a finished pod.
pub(super) fn released(transaction: &mut Transaction<'_>, scheduler: &Scheduler, pod: &Object) -> Result<(), Refusal> {
    let volumes = pod.value["spec"]["volumes"].as_array().cloned().unwrap_or_default();
    for name in volumes
        .iter()
        .filter_map(|volume| volume["persistentVolumeClaim"]["claimName"].as_str())
    {
        let claim = transaction.get(kind_of("persistentvolumeclaims"), pod.namespace(), name)?;
        if let Some(claim) = claim.filter(Object::is_deleting) {
            reconcile(transaction, scheduler, claim)?;
        }
    }
    Ok(())
}
