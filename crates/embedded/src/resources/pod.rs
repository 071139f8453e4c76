//! Defaults and validation of pods.

use k8s_openapi::api::core::v1::{
    Container, ContainerState, EmptyDirVolumeSource, Pod, PodCondition, PodSpec, PodStatus, Probe,
    ResourceRequirements, Volume,
};
use serde_json::Value;

use super::candidate::Candidate;
use super::pod_spec::{self, SpecOwner};
use crate::field_errors::FieldErrors;
use crate::object::Object;
use crate::status_error::StatusError;

/// Finalizer that keeps a pod until its Job has counted it; otherwise, the result of a deleted pod would be lost.
pub(crate) const JOB_TRACKING_FINALIZER: &str = "batch.kubernetes.io/job-tracking";

/// `v1/Pod`.
pub(super) fn prepare(candidate: Candidate<'_>) -> Result<Value, StatusError> {
    candidate.prepare_as::<Pod>(
        |pod, _| {
            let spec = pod.spec.get_or_insert_default();
            set_spec_defaults(spec);
            for container in &mut spec.containers {
                set_resource_defaults(container.resources.get_or_insert_default());
            }
            spec.enable_service_links.get_or_insert(true);
            spec.service_account_name.get_or_insert_with(|| "default".to_owned());
            let class = quality_of_service(spec);
            let status = pod.status.get_or_insert_with(|| PodStatus {
                phase: Some("Pending".to_owned()),
                ..PodStatus::default()
            });
            status.qos_class.get_or_insert(class);
        },
        |pod, old, errors| {
            let Some(spec) = &pod.spec else { return };
            pod_spec::validate_pod_spec(spec, "spec", SpecOwner::Pod, errors);
            if let Some(old) = old.and_then(|old| old.spec.as_ref()) {
                validate_update(spec, old, errors);
            }
        },
    )
}

/// Whether a pod's phase is final: `Succeeded` or `Failed`.
pub(crate) fn is_terminal(pod: &Object) -> bool {
    matches!(pod.phase(), "Succeeded" | "Failed")
}

/// The state of a pod's only container.
pub(crate) fn container_state(status: &PodStatus) -> Option<&ContainerState> {
    status.container_statuses.as_ref()?.first()?.state.as_ref()
}

/// Whether a pod is bound to a cluster node.
pub(crate) fn is_bound(pod: &Object) -> bool {
    pod.value()["spec"]["nodeName"].is_string()
}

/// Binds a pod to a cluster node. Sets only this field, so that the rest of the spec stays as it was stored.
pub(crate) fn bind(pod: &mut Object, node: &str) {
    pod.value_mut()["spec"]["nodeName"] = node.into();
}

/// Names of the claims that a pod's volumes refer to.
pub(crate) fn claim_names(spec: &PodSpec) -> impl Iterator<Item = &str> {
    let volumes = spec.volumes.iter().flatten();
    volumes.filter_map(|volume| Some(volume.persistent_volume_claim.as_ref()?.claim_name.as_str()))
}

/// Sets a condition, replacing one of the same type.
pub(crate) fn set_condition(status: &mut PodStatus, condition: PodCondition) {
    let conditions = status.conditions.get_or_insert_default();
    conditions.retain(|one| one.type_ != condition.type_);
    conditions.push(condition);
}

/// Sets the defaults of a pod's spec, whether in a pod or in a template.
pub(crate) fn set_spec_defaults(spec: &mut PodSpec) {
    spec.restart_policy.get_or_insert_with(|| "Always".to_owned());
    spec.dns_policy.get_or_insert_with(|| "ClusterFirst".to_owned());
    spec.termination_grace_period_seconds.get_or_insert(30);
    spec.scheduler_name
        .get_or_insert_with(|| "default-scheduler".to_owned());
    spec.security_context.get_or_insert_default();
    spec.containers.iter_mut().for_each(set_container_defaults);
    spec.volumes.iter_mut().flatten().for_each(set_volume_defaults);
}

fn set_container_defaults(container: &mut Container) {
    // Kubernetes' default, for clients that read it; the engine pulls no images.
    let image = container.image.as_deref().unwrap_or_default();
    let tag = image.rsplit('/').next().unwrap_or_default();
    let newest = !tag.contains(':') || tag.ends_with(":latest");
    let policy = if newest { "Always" } else { "IfNotPresent" };
    container.image_pull_policy.get_or_insert_with(|| policy.to_owned());
    container
        .termination_message_path
        .get_or_insert_with(|| "/dev/termination-log".to_owned());
    container
        .termination_message_policy
        .get_or_insert_with(|| "File".to_owned());
    for port in container.ports.iter_mut().flatten() {
        port.protocol.get_or_insert_with(|| "TCP".to_owned());
    }
    container.resources.get_or_insert_default();
    for probe in [
        &mut container.readiness_probe,
        &mut container.liveness_probe,
        &mut container.startup_probe,
    ] {
        probe.iter_mut().for_each(set_probe_defaults);
    }
}

/// Requests default to limits.
fn set_resource_defaults(resources: &mut ResourceRequirements) {
    if let Some(limits) = resources.limits.clone() {
        let requests = resources.requests.get_or_insert_default();
        for (name, amount) in limits {
            requests.entry(name).or_insert(amount);
        }
    }
}

fn set_probe_defaults(probe: &mut Probe) {
    probe.timeout_seconds.get_or_insert(1);
    probe.period_seconds.get_or_insert(10);
    probe.success_threshold.get_or_insert(1);
    probe.failure_threshold.get_or_insert(3);
}

fn set_volume_defaults(volume: &mut Volume) {
    const MODE: i32 = 0o644;
    let of_no_type = Volume {
        name: volume.name.clone(),
        ..Volume::default()
    };
    if *volume == of_no_type {
        volume.empty_dir = Some(EmptyDirVolumeSource::default());
    }
    if let Some(source) = &mut volume.config_map {
        source.default_mode.get_or_insert(MODE);
    }
    if let Some(source) = &mut volume.secret {
        source.default_mode.get_or_insert(MODE);
    }
    if let Some(source) = &mut volume.downward_api {
        source.default_mode.get_or_insert(MODE);
        for field in source
            .items
            .iter_mut()
            .flatten()
            .filter_map(|item| item.field_ref.as_mut())
        {
            field.api_version.get_or_insert_with(|| "v1".to_owned());
        }
    }
}

/// See <https://kubernetes.io/docs/concepts/workloads/pods/pod-qos/>.
fn quality_of_service(spec: &PodSpec) -> String {
    let counted = |container: &Container| {
        let resources = container.resources.clone().unwrap_or_default();
        let (requests, limits) = (
            resources.requests.unwrap_or_default(),
            resources.limits.unwrap_or_default(),
        );
        let whole = ["cpu", "memory"].iter().all(|name| limits.contains_key(*name));
        let any = ["cpu", "memory"]
            .iter()
            .any(|name| limits.contains_key(*name) || requests.contains_key(*name));
        (whole && requests == limits, any)
    };
    let all: Vec<(bool, bool)> = spec.containers.iter().map(counted).collect();
    let class = match (all.iter().all(|(whole, _)| *whole), all.iter().any(|(_, any)| *any)) {
        (true, true) => "Guaranteed",
        (_, true) => "Burstable",
        _ => "BestEffort",
    };
    class.to_owned()
}

fn validate_update(new: &PodSpec, old: &PodSpec, errors: &mut FieldErrors) {
    match (old.active_deadline_seconds, new.active_deadline_seconds) {
        (Some(old), Some(new)) if new > old => {
            errors.invalid(
                "spec.activeDeadlineSeconds",
                new,
                "must be less than or equal to previous value",
            );
        }
        (Some(_), None) => {
            let why = "must not update from a positive integer to nil value";
            errors.invalid("spec.activeDeadlineSeconds", Value::Null, why);
        }
        _ => {}
    }
    // Without the fields that an update may change.
    let comparable = |spec: &PodSpec| {
        let mut spec = spec.clone();
        spec.active_deadline_seconds = None;
        spec.tolerations = None;
        for container in &mut spec.containers {
            container.image = None;
        }
        spec
    };
    if comparable(new) != comparable(old) {
        let why = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";
        errors.forbidden("spec", why);
    }
}
