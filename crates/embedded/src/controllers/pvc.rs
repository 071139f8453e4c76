//! The PersistentVolumeClaim controller: binds claims, and keeps them while pods use them.

use serde_json::json;

use super::deletion::remove_if_finalized;
use super::events::EventRecorder;
use super::scheduler::Scheduler;
use crate::object::{Kind, Object};
use crate::resources::{PVC_PROTECTION_FINALIZER, claim_names};
use crate::status_error::StatusError;
use crate::store::Transaction;

const EVENTS: EventRecorder = EventRecorder::new("persistentvolume-controller");

/// Binds a claim if its storage class exists; removes one that is being deleted once no pod uses it.
pub(super) fn reconcile(
    transaction: &mut Transaction<'_>,
    scheduler: &Scheduler,
    mut claim: Object,
) -> Result<(), StatusError> {
    if claim.is_deleting() {
        if claim.finalizers().contains(&PVC_PROTECTION_FINALIZER)
            && !scheduler.is_claim_used(claim.namespace(), claim.name())
        {
            claim.remove_finalizer(PVC_PROTECTION_FINALIZER);
            let claim = transaction.update(claim)?;
            remove_if_finalized(transaction, claim)?;
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
    if transaction.get(Kind::StorageClass, "", &class)?.is_none() {
        let message = format!("storageclass.storage.k8s.io \"{class}\" not found");
        return EVENTS.warning(transaction, &claim, "ProvisioningFailed", &message);
    }
    // There is no PersistentVolume object; the kubelet creates the claim's directory.
    claim.value["spec"]["volumeName"] = format!("pvc-{}", claim.uid()).into();
    claim.value["status"] = json!({
        "phase": "Bound",
        "accessModes": claim.value["spec"]["accessModes"],
        "capacity": {"storage": claim.value["spec"]["resources"]["requests"]["storage"]},
    });
    transaction.update(claim).map(drop)
}

/// Removes claims whose deletion waited for a finished pod.
pub(super) fn release_claims_of(
    transaction: &mut Transaction<'_>,
    scheduler: &Scheduler,
    pod: &Object,
) -> Result<(), StatusError> {
    for name in claim_names(pod) {
        let claim = transaction.get(Kind::PersistentVolumeClaim, pod.namespace(), name)?;
        if let Some(claim) = claim.filter(Object::is_deleting) {
            reconcile(transaction, scheduler, claim)?;
        }
    }
    Ok(())
}
