//! The PersistentVolumeClaim controller: binds claims, and keeps them while pods use them.

use k8s_openapi::api::core::v1::{PersistentVolumeClaimSpec, PersistentVolumeClaimStatus};

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
    // Like Kubernetes' pvc-protection controller: a replace of the object may have dropped the finalizer.
    if !claim.finalizers().contains(&PVC_PROTECTION_FINALIZER) {
        claim.add_finalizer(PVC_PROTECTION_FINALIZER);
        claim = transaction.update(claim)?;
    }
    if claim.phase() == "Bound" {
        return Ok(());
    }
    let mut spec: PersistentVolumeClaimSpec = claim.spec()?;
    let class = spec.storage_class_name.as_deref().unwrap_or_default();
    if transaction.get(Kind::StorageClass, "", class)?.is_none() {
        let message = format!("storageclass.storage.k8s.io \"{class}\" not found");
        return EVENTS.warning(transaction, &claim, "ProvisioningFailed", &message);
    }
    // There is no PersistentVolume object; the kubelet creates the claim's directory.
    spec.volume_name = Some(format!("pvc-{}", claim.uid()));
    claim.set_spec(&spec)?;
    let requests = spec.resources.and_then(|resources| resources.requests);
    claim.set_status(&PersistentVolumeClaimStatus {
        phase: Some("Bound".to_owned()),
        access_modes: spec.access_modes,
        capacity: requests.map(|mut requests| {
            requests.retain(|name, _| name == "storage");
            requests
        }),
        ..PersistentVolumeClaimStatus::default()
    })?;
    transaction.update(claim).map(drop)
}

/// Removes claims whose deletion waited for a finished pod.
pub(super) fn release_claims_of(
    transaction: &mut Transaction<'_>,
    scheduler: &Scheduler,
    pod: &Object,
) -> Result<(), StatusError> {
    for name in claim_names(&pod.spec_without("containers")?) {
        let claim = transaction.get(Kind::PersistentVolumeClaim, pod.namespace(), name)?;
        if let Some(claim) = claim.filter(Object::is_deleting) {
            reconcile(transaction, scheduler, claim)?;
        }
    }
    Ok(())
}
