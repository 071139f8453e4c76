//! Validates a pod's spec, in a pod or in a Job's template.

use std::collections::{BTreeMap, HashSet};

use k8s_openapi::api::core::v1::{Container, PodSpec, Probe, ResourceRequirements, Volume};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::field_errors::FieldErrors;
use crate::object::names;

/// Where the spec is used, which determines the possible restart policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SpecOwner {
    Pod,
    Job,
}

pub(super) fn validate_pod_spec(spec: &PodSpec, path: &str, usage: SpecOwner, errors: &mut FieldErrors) {
    validate_restart_policy(spec.restart_policy.as_deref().unwrap_or_default(), path, usage, errors);
    if let Some(seconds) = spec
        .active_deadline_seconds
        .filter(|seconds| !(1..=i32::MAX.into()).contains(seconds))
    {
        let why = "must be between 1 and 2147483647, inclusive";
        errors.invalid(format!("{path}.activeDeadlineSeconds"), seconds, why);
    }
    if spec.containers.is_empty() {
        errors.required(format!("{path}.containers"), "");
    }
    if spec.containers.len() > 1 || spec.init_containers.as_ref().is_some_and(|list| !list.is_empty()) {
        let why = "pods on this machine must have one container and no init containers";
        errors.forbidden(format!("{path}.containers"), why);
    }
    let volumes = validate_volumes(spec.volumes.as_deref().unwrap_or_default(), path, errors);
    for (index, container) in spec.containers.iter().enumerate() {
        validate_container(container, &format!("{path}.containers[{index}]"), &volumes, errors);
    }
}

fn validate_restart_policy(policy: &str, path: &str, usage: SpecOwner, errors: &mut FieldErrors) {
    let field = format!("{path}.restartPolicy");
    match (usage, policy) {
        (_, "Never") | (SpecOwner::Pod, "Always" | "OnFailure") => {}
        (SpecOwner::Pod, _) => errors.unsupported(field, policy, &["Always", "OnFailure", "Never"]),
        (SpecOwner::Job, "Always") => errors.required(field, "valid values: \"OnFailure\", \"Never\""),
        // `OnFailure` is unsupported: the engine's Job controller counts failed pods, not the restarts of containers.
        (SpecOwner::Job, _) => errors.unsupported(field, policy, &["Never"]),
    }
}

fn validate_volumes<'a>(volumes: &'a [Volume], path: &str, errors: &mut FieldErrors) -> HashSet<&'a str> {
    let mut names = HashSet::new();
    for (index, volume) in volumes.iter().enumerate() {
        let here = format!("{path}.volumes[{index}]");
        if volume.name.is_empty() {
            errors.required(format!("{here}.name"), "");
        } else if let Err(why) = names::validate_label(&volume.name) {
            errors.invalid(format!("{here}.name"), volume.name.as_str(), why);
        } else if !names.insert(volume.name.as_str()) {
            errors.duplicate(format!("{here}.name"), &volume.name);
        }
        let known = [
            volume.empty_dir.is_some(),
            volume.config_map.is_some(),
            volume.secret.is_some(),
            volume.downward_api.is_some(),
            volume.persistent_volume_claim.is_some(),
            volume.host_path.is_some(),
            volume.ephemeral.is_some(),
        ];
        match known.iter().filter(|is| **is).count() {
            1 => {}
            0 => errors.required(&here, "must specify a volume type"),
            _ => errors.forbidden(&here, "may not specify more than 1 volume type"),
        }
        if let Some(ephemeral) = &volume.ephemeral
            && ephemeral.volume_claim_template.is_none()
        {
            errors.required(format!("{here}.ephemeral.volumeClaimTemplate"), "");
        }
        if let Some(claim) = &volume.persistent_volume_claim
            && claim.claim_name.is_empty()
        {
            errors.required(format!("{here}.persistentVolumeClaim.claimName"), "");
        }
        for (field, item) in file_paths(volume) {
            validate_file_path(item, &format!("{here}.{field}"), errors);
        }
    }
    names
}

/// The paths of files in a volume that its objects or fields become, with the fields that contain them.
fn file_paths(volume: &Volume) -> Vec<(String, &str)> {
    let config_map = volume.config_map.as_ref().and_then(|source| source.items.as_deref());
    let secret = volume.secret.as_ref().and_then(|source| source.items.as_deref());
    let keys = [("configMap", config_map), ("secret", secret)];
    let keys = keys.into_iter().flat_map(|(source, items)| {
        let paths = items.into_iter().flatten().map(|item| item.path.as_str());
        paths.enumerate().map(move |(index, path)| (source, index, path))
    });
    let fields = volume.downward_api.as_ref().and_then(|source| source.items.as_deref());
    let fields = fields.into_iter().flatten().enumerate();
    keys.chain(fields.map(|(index, item)| ("downwardAPI", index, item.path.as_str())))
        .map(|(source, index, path)| (format!("{source}.items[{index}].path"), path))
        .collect()
}

/// Checks that a path stays within its volume.
fn validate_file_path(path: &str, field: &str, errors: &mut FieldErrors) {
    if path.is_empty() {
        errors.required(field, "");
    } else if path.starts_with('/') {
        errors.invalid(field, path, "must be a relative path");
    } else if path.split('/').any(|step| step == "..") {
        errors.invalid(field, path, "must not contain '..'");
    } else if path.starts_with("..") {
        errors.invalid(field, path, "must not start with '..'");
    }
}

fn validate_container(container: &Container, path: &str, volumes: &HashSet<&str>, errors: &mut FieldErrors) {
    if container.name.is_empty() {
        errors.required(format!("{path}.name"), "");
    } else if let Err(why) = names::validate_label(&container.name) {
        errors.invalid(format!("{path}.name"), container.name.as_str(), why);
    }
    if container.image.as_deref().unwrap_or_default().is_empty() {
        errors.required(format!("{path}.image"), "");
    }
    for (index, variable) in container.env.iter().flatten().enumerate() {
        if variable.name.is_empty() {
            errors.required(format!("{path}.env[{index}].name"), "");
        } else if variable.name.contains('=') || !variable.name.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
            let why =
                "a valid environment variable name must consist only of printable ASCII characters other than '='";
            errors.invalid(format!("{path}.env[{index}].name"), variable.name.as_str(), why);
        }
        if variable.value_from.is_some() && variable.value.as_deref().is_some_and(|value| !value.is_empty()) {
            errors.invalid(
                format!("{path}.env[{index}].valueFrom"),
                "",
                "may not be specified when `value` is not empty",
            );
        }
    }
    let mut paths = HashSet::new();
    for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
        let here = format!("{path}.volumeMounts[{index}]");
        if mount.name.is_empty() {
            errors.required(format!("{here}.name"), "");
        } else if !volumes.contains(mount.name.as_str()) {
            errors.not_found(format!("{here}.name"), &mount.name);
        }
        if mount.mount_path.is_empty() {
            errors.required(format!("{here}.mountPath"), "");
        } else if !paths.insert(mount.mount_path.as_str()) {
            errors.invalid(format!("{here}.mountPath"), mount.mount_path.as_str(), "must be unique");
        }
        if let Some(below) = mount.sub_path.as_deref().filter(|below| !below.is_empty()) {
            // kube-apiserver leaves out the index.
            validate_file_path(below, &format!("{path}.volumeMounts.subPath"), errors);
        }
    }
    if let Some(resources) = &container.resources {
        validate_resources(resources, &format!("{path}.resources"), errors);
    }
    if let Some(probe) = &container.readiness_probe {
        validate_probe(probe, &format!("{path}.readinessProbe"), errors);
    }
}

fn validate_resources(resources: &ResourceRequirements, path: &str, errors: &mut FieldErrors) {
    let none = BTreeMap::new();
    let limits = resources.limits.as_ref().unwrap_or(&none);
    let requests = resources.requests.as_ref().unwrap_or(&none);
    let nanos = |amount: &Quantity| quantity::Quantity::parse(&amount.0).map(quantity::Quantity::nanos);
    let mut values = |kind: &str, amounts: &BTreeMap<String, Quantity>| {
        for (name, amount) in amounts {
            let field = format!("{path}.{kind}[{name}]");
            let standard = ["cpu", "memory", "ephemeral-storage"].contains(&name.as_str());
            if !standard && !name.contains('/') && !name.starts_with("hugepages-") {
                let why = "must be a standard resource type or fully qualified";
                errors.invalid(field.clone(), name.as_str(), why);
            }
            match nanos(amount) {
                None => {
                    let why =
                        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
                    errors.invalid(field, amount.0.as_str(), why);
                }
                Some(value) if value < 0 => {
                    errors.invalid(field, amount.0.as_str(), "must be greater than or equal to 0");
                }
                Some(value) if !standard && value % quantity::NANOS_PER_UNIT != 0 => {
                    errors.invalid(field, amount.0.as_str(), "must be an integer");
                }
                Some(_) => {}
            }
        }
    };
    values("limits", limits);
    values("requests", requests);
    for (name, request) in requests {
        let Some(limit) = limits.get(name) else { continue };
        if nanos(request) > nanos(limit) {
            let why = format!("must be less than or equal to {name} limit of {}", limit.0);
            errors.invalid(format!("{path}.requests"), request.0.as_str(), &why);
        }
    }
}

fn validate_probe(probe: &Probe, path: &str, errors: &mut FieldErrors) {
    if probe.exec.is_none() {
        errors.required(path, "must specify a handler type");
    }
    if probe.period_seconds.is_some_and(|seconds| seconds < 1) {
        errors.invalid(
            format!("{path}.periodSeconds"),
            probe.period_seconds,
            "must be greater than or equal to 1",
        );
    }
}
