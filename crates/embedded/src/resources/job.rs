//! Defaults and validation of Jobs.

use k8s_openapi::api::batch::v1::{Job, JobCondition, JobSpec, JobStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde_json::Value;

use super::candidate::Candidate;
use super::pod_spec::{self, SpecOwner};
use super::{metadata, pod};
use crate::field_errors::FieldErrors;
use crate::object::Object;
use crate::status_error::StatusError;

/// Label of pods with the UID of their Job.
const CONTROLLER_UID_LABEL: &str = "batch.kubernetes.io/controller-uid";
/// Label of pods with the name of their Job.
const JOB_NAME_LABEL: &str = "batch.kubernetes.io/job-name";

/// Maximum number of a Job's concurrent pods. All of them are created in one transaction, which blocks all other
/// writers.
const MAX_PARALLELISM: i32 = 1000;

/// `batch/v1/Job`.
pub(super) fn prepare(candidate: Candidate<'_>) -> Result<Value, StatusError> {
    candidate.prepare_as::<Job>(set_defaults, |job, old, errors| {
        let Some(spec) = &job.spec else {
            errors.required("spec", "");
            return;
        };
        validate(
            spec,
            job.metadata.name.as_deref().unwrap_or_default(),
            old.is_none(),
            errors,
        );
        if let Some(old) = old.and_then(|old| old.spec.as_ref()) {
            validate_update(spec, old, errors);
        }
    })
}

/// A finished Job is still active while its pods terminate, and if its time to live will remove it.
pub(super) fn needs_reconcile(job: &Object) -> bool {
    let Ok(status) = job.status::<JobStatus>() else {
        return true;
    };
    let ended = ["Complete", "Failed"]
        .iter()
        .any(|name| true_condition(&status, name).is_some());
    !ended
        || status.terminating > Some(0)
        || job
            .spec_without::<JobSpec>("template")
            .is_ok_and(|spec| spec.ttl_seconds_after_finished.is_some())
}

/// A condition of a Job, if it is true.
pub(crate) fn true_condition<'a>(status: &'a JobStatus, name: &str) -> Option<&'a JobCondition> {
    let mut conditions = status.conditions.iter().flatten();
    conditions.find(|condition| condition.type_ == name && condition.status == "True")
}

fn set_defaults(job: &mut Job, old: Option<&Job>) {
    let uid = job.metadata.uid.clone().unwrap_or_default();
    let name = job.metadata.name.clone().unwrap_or_default();
    let spec = job.spec.get_or_insert_default();
    if job.metadata.labels.is_none() && old.is_none() {
        // As in kube-apiserver, a Job without labels gets those of its pod template.
        job.metadata.labels = spec
            .template
            .metadata
            .as_ref()
            .and_then(|metadata| metadata.labels.clone());
    }
    if spec.completions.is_none() && spec.parallelism.is_none() {
        spec.completions = Some(1);
    }
    spec.parallelism.get_or_insert(1);
    spec.backoff_limit.get_or_insert(6);
    spec.completion_mode.get_or_insert_with(|| "NonIndexed".to_owned());
    spec.suspend.get_or_insert(false);
    spec.manual_selector.get_or_insert(false);
    spec.pod_replacement_policy
        .get_or_insert_with(|| "TerminatingOrFailed".to_owned());
    if old.is_none() && spec.manual_selector == Some(false) {
        let labels = spec
            .template
            .metadata
            .get_or_insert_default()
            .labels
            .get_or_insert_default();
        // The labels without a prefix are legacy; Kubernetes still sets them.
        for (key, value) in [
            (CONTROLLER_UID_LABEL, &uid),
            (JOB_NAME_LABEL, &name),
            ("controller-uid", &uid),
            ("job-name", &name),
        ] {
            labels.insert(key.to_owned(), value.clone());
        }
        let selector = spec.selector.get_or_insert_with(LabelSelector::default);
        selector
            .match_labels
            .get_or_insert_default()
            .insert(CONTROLLER_UID_LABEL.to_owned(), uid);
    }
    pod::set_spec_defaults(spec.template.spec.get_or_insert_default());
}

fn validate(spec: &JobSpec, name: &str, is_new: bool, errors: &mut FieldErrors) {
    for (field, value) in [
        ("parallelism", spec.parallelism.map(i64::from)),
        ("completions", spec.completions.map(i64::from)),
        ("activeDeadlineSeconds", spec.active_deadline_seconds),
        ("backoffLimit", spec.backoff_limit.map(i64::from)),
        (
            "ttlSecondsAfterFinished",
            spec.ttl_seconds_after_finished.map(i64::from),
        ),
    ] {
        if let Some(value) = value.filter(|value| *value < 0) {
            errors.invalid(format!("spec.{field}"), value, "must be greater than or equal to 0");
        }
    }
    if let Some(many) = spec.parallelism.filter(|many| *many > MAX_PARALLELISM) {
        let why = format!("must be less than or equal to {MAX_PARALLELISM} on this machine");
        errors.invalid("spec.parallelism", many, &why);
    }
    // The name becomes the value of a label of the pods.
    if is_new && name.len() > 63 {
        errors.invalid("spec.template.labels", name, "must be no more than 63 bytes");
    }
    if spec.completion_mode.as_deref() != Some("NonIndexed") {
        let mode = spec.completion_mode.as_deref().unwrap_or_default();
        errors.unsupported("spec.completionMode", mode, &["NonIndexed"]);
    }
    if let Some(pod_metadata) = &spec.template.metadata {
        metadata::validate_metadata(pod_metadata, "spec.template", errors);
    }
    let labels = spec
        .template
        .metadata
        .as_ref()
        .and_then(|metadata| metadata.labels.clone())
        .unwrap_or_default();
    let wanted = spec
        .selector
        .as_ref()
        .and_then(|selector| selector.match_labels.clone())
        .unwrap_or_default();
    if wanted.iter().any(|(key, value)| labels.get(key) != Some(value)) {
        let shown = serde_json::to_value(&labels).unwrap_or_default();
        errors.invalid(
            "spec.template.metadata.labels",
            shown,
            "`selector` does not match template `labels`",
        );
    }
    match &spec.template.spec {
        None => errors.required("spec.template.spec", ""),
        Some(pod) => pod_spec::validate_pod_spec(pod, "spec.template.spec", SpecOwner::Job, errors),
    }
}

fn validate_update(new: &JobSpec, old: &JobSpec, errors: &mut FieldErrors) {
    if new.completions != old.completions {
        errors.invalid("spec.completions", new.completions, IMMUTABLE);
    }
    if new.completion_mode != old.completion_mode {
        errors.invalid("spec.completionMode", new.completion_mode.clone(), IMMUTABLE);
    }
    if new.selector != old.selector {
        errors.invalid(
            "spec.selector",
            serde_json::to_value(&new.selector).unwrap_or_default(),
            IMMUTABLE,
        );
    }
    if new.template.spec != old.template.spec {
        errors.invalid(
            "spec.template.spec",
            serde_json::to_value(&new.template.spec).unwrap_or_default(),
            IMMUTABLE,
        );
    } else if new.template != old.template {
        errors.invalid(
            "spec.template",
            serde_json::to_value(&new.template).unwrap_or_default(),
            IMMUTABLE,
        );
    }
}

const IMMUTABLE: &str = "field is immutable";
