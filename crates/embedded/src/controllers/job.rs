//! The Job controller: carries out what [`super::job_decision`] decides.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{JobCondition, JobSpec, JobStatus, UncountedTerminatedPods};
use k8s_openapi::api::core::v1::{Pod, PodStatus, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};

use super::deletion::{DeleteOptions, delete_object, remove_if_finalized};
use super::events::EventRecorder;
use super::job_decision::{JobDecision, JobFacts, JobFailure, PodEnd, PodFacts, decide};
use super::quota::check_quota;
use crate::object::{Kind, Object};
use crate::resources::{JOB_TRACKING_FINALIZER, container_state, prepare_for_create, true_condition};
use crate::status_error::StatusError;
use crate::store::Transaction;

const EVENTS: EventRecorder = EventRecorder::new("job-controller");

/// A Job whose `managedBy` names another controller is left to that.
const CONTROLLER_NAME: &str = "kubernetes.io/job-controller";

/// Delay between counting a Job's pods and finishing the Job, so that clients that watch both see the reason first.
const COUNT_DELAY: Duration = Duration::from_millis(5);

/// Delay before retrying to create a pod.
const RETRY_DELAY: Duration = Duration::from_secs(2);

/// Maximum length of the part of a Job's name that its pods' names begin with. A dash and five random characters
/// follow, so that pod names have at most 63 characters.
const MAX_POD_PREFIX: usize = 57;

/// Reconciles a Job; returns when to reconcile it again, if it must be.
pub(super) fn reconcile(transaction: &mut Transaction<'_>, object: Object) -> Result<Option<Duration>, StatusError> {
    let (spec, status): (JobSpec, JobStatus) = (object.spec_without("template")?, object.status()?);
    if spec
        .managed_by
        .as_deref()
        .is_some_and(|manager| manager != CONTROLLER_NAME)
    {
        return Ok(None);
    }
    let mut pods = transaction.list_dependents(object.uid())?;
    pods.retain(|pod| is_pod_of(pod, &object, &spec));
    let facts: Vec<PodFacts> = pods.iter().map(pod_facts).collect::<Result<_, _>>()?;
    let before = job_facts(&spec, &status, object.is_deleting());
    let decision = decide(&before, &facts, transaction.now);
    if decision.delete_job {
        delete_object(transaction, object, DeleteOptions::default())?;
        return Ok(None);
    }
    for index in &decision.count {
        let mut pod = pods[*index].clone();
        pod.remove_finalizer(JOB_TRACKING_FINALIZER);
        pods[*index] = transaction.update(pod.clone())?;
        if pod.is_deleting() {
            remove_if_finalized(transaction, pods[*index].clone())?;
        }
    }
    for index in &decision.delete {
        EVENTS.normal(
            transaction,
            &object,
            "SuccessfulDelete",
            &format!("Deleted pod: {}", pods[*index].name()),
        )?;
        let mut pod = pods[*index].clone();
        if pod.finalizers().contains(&JOB_TRACKING_FINALIZER) {
            // Pods that are deleted to reduce parallelism don't count as failed: without the finalizer, they are never
            // counted. `deleteJobPods` of Kubernetes' Job controller removes it, too.
            pod.remove_finalizer(JOB_TRACKING_FINALIZER);
            pod = transaction.update(pod)?;
        }
        delete_object(transaction, pod, DeleteOptions::default())?;
    }
    let mut requeue_after = match decision.requeue_after {
        _ if decision.requeue_soon => Some(COUNT_DELAY),
        seconds => seconds.map(|seconds| Duration::from_secs(seconds.unsigned_abs())),
    };
    let mut created = 0;
    let template = match decision.create {
        0 => PodTemplateSpec::default(),
        _ => object.spec::<JobSpec>()?.template,
    };
    for _ in 0..decision.create {
        if let Err(error) = create_pod(transaction, &object, &template) {
            let message = format!("Error creating: {}", error.message);
            EVENTS.warning(transaction, &object, "FailedCreate", &message)?;
            requeue_after = Some(requeue_after.map_or(RETRY_DELAY, |other| other.min(RETRY_DELAY)));
            break;
        }
        created += 1;
    }
    // `decision.active` includes the pods that couldn't be created.
    let active = decision.active - (decision.create - created);
    record_events(transaction, &object, &before, &decision)?;
    let mut changed = object;
    changed.set_status(&next_status(status, &before, &decision, active, transaction.now))?;
    transaction.update(changed)?;
    Ok(requeue_after)
}

/// Whether a pod belongs to a Job. An owner reference alone, which anyone can write, is not enough.
fn is_pod_of(pod: &Object, job: &Object, spec: &JobSpec) -> bool {
    let labels = pod.labels();
    let selector = spec
        .selector
        .as_ref()
        .and_then(|selector| selector.match_labels.as_ref());
    pod.kind == Kind::Pod
        && pod.namespace() == job.namespace()
        && pod
            .owner_references()
            .iter()
            .any(|owner| owner.is_controller && owner.uid == job.uid())
        && selector
            .into_iter()
            .flatten()
            .all(|(key, value)| labels.get(key.as_str()) == Some(&value.as_str()))
}

/// Removes the finalizer of a pod whose Job is gone or no longer its owner, because nobody else will. Kubernetes' Job
/// controller does this in `syncOrphanPod`.
pub(super) fn release_if_orphaned(transaction: &mut Transaction<'_>, pod: &Object) -> Result<(), StatusError> {
    if !pod.finalizers().contains(&JOB_TRACKING_FINALIZER) {
        return Ok(());
    }
    for owner in pod.owner_references().iter().filter(|owner| owner.is_controller) {
        if transaction.get_by_uid(owner.uid)?.is_some() {
            return Ok(());
        }
    }
    let Some(mut pod) = transaction.get_by_uid(pod.uid())? else {
        return Ok(());
    };
    pod.remove_finalizer(JOB_TRACKING_FINALIZER);
    let pod = transaction.update(pod)?;
    if pod.is_deleting() {
        remove_if_finalized(transaction, pod)?;
    }
    Ok(())
}

fn create_pod(transaction: &mut Transaction<'_>, job: &Object, template: &PodTemplateSpec) -> Result<(), StatusError> {
    let prefix = job.name();
    let mut cut = prefix.len().min(MAX_POD_PREFIX);
    while !prefix.is_char_boundary(cut) {
        cut -= 1;
    }
    let prefix = &prefix[..cut];
    let metadata = template.metadata.clone().unwrap_or_default();
    let pod = Object::encode(&Pod {
        metadata: ObjectMeta {
            name: Some(format!("{prefix}-{}", transaction.random.suffix())),
            generate_name: Some(format!("{prefix}-")),
            namespace: Some(job.namespace().to_owned()),
            uid: Some(transaction.random.uid()),
            creation_timestamp: Some(Time(transaction.now)),
            generation: Some(1),
            labels: metadata.labels,
            annotations: metadata.annotations,
            owner_references: Some(vec![OwnerReference {
                api_version: job.kind.api_version().to_owned(),
                kind: job.kind.name().to_owned(),
                name: job.name().to_owned(),
                uid: job.uid().to_owned(),
                controller: Some(true),
                block_owner_deletion: Some(true),
            }]),
            finalizers: Some(vec![JOB_TRACKING_FINALIZER.to_owned()]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    })?;
    check_quota(transaction, &pod)?;
    let pod = transaction.create(prepare_for_create(pod)?)?;
    let message = format!("Created pod: {}", pod.name());
    EVENTS.normal(transaction, job, "SuccessfulCreate", &message)
}

fn record_events(
    transaction: &mut Transaction<'_>,
    job: &Object,
    before: &JobFacts,
    decision: &JobDecision,
) -> Result<(), StatusError> {
    if decision.job.is_complete && !before.is_complete {
        EVENTS.normal(transaction, job, "Completed", "Job completed")?;
    }
    if let Some(failure) = decision.job.failure.as_ref().filter(|_| before.failure.is_none()) {
        EVENTS.warning(transaction, job, &failure.reason, &failure.message)?;
    }
    if decision.job.suspended && !before.has_suspended_condition {
        EVENTS.normal(transaction, job, "Suspended", "Job suspended")?;
    }
    Ok(())
}

fn job_facts(spec: &JobSpec, status: &JobStatus, deleting: bool) -> JobFacts {
    let condition = |name: &str| true_condition(status, name);
    let (complete, failed) = (condition("Complete"), condition("Failed"));
    let failing = failed.or_else(|| condition("FailureTarget"));
    let ended = failed.or(complete);
    JobFacts {
        parallelism: spec.parallelism.unwrap_or(1).into(),
        completions: spec.completions.map(i64::from),
        backoff_limit: spec.backoff_limit.unwrap_or(6).into(),
        active_deadline: spec.active_deadline_seconds,
        ttl: spec.ttl_seconds_after_finished.map(i64::from),
        suspended: spec.suspend.unwrap_or(false),
        deleting,
        started: status.start_time.as_ref().map(|time| time.0),
        ended: ended.and_then(|condition| Some(condition.last_transition_time.as_ref()?.0)),
        succeeded: status.succeeded.unwrap_or(0).into(),
        failed: status.failed.unwrap_or(0).into(),
        has_suspended_condition: condition("Suspended").is_some(),
        failure: failing.map(|condition| JobFailure {
            reason: condition.reason.clone().unwrap_or_default(),
            message: condition.message.clone().unwrap_or_default(),
        }),
        is_failed: failed.is_some(),
        is_succeeding: condition("SuccessCriteriaMet").or(complete).is_some(),
        is_complete: complete.is_some(),
    }
}

fn pod_facts(pod: &Object) -> Result<PodFacts, StatusError> {
    let status: PodStatus = pod.status()?;
    let phase = status.phase.as_deref().unwrap_or_default();
    let terminated = container_state(&status).and_then(|state| state.terminated.as_ref());
    let finished = terminated.and_then(|terminated| Some(terminated.finished_at.as_ref()?.0));
    let mut conditions = status.conditions.iter().flatten();
    Ok(PodFacts {
        end: matches!(phase, "Succeeded" | "Failed").then(|| PodEnd {
            succeeded: phase == "Succeeded",
            at: finished.or_else(|| pod.created()).unwrap_or_default(),
        }),
        ready: conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True"),
        deleting: pod.is_deleting(),
        tracked: pod.finalizers().contains(&JOB_TRACKING_FINALIZER),
    })
}

/// The status after a decision.
fn next_status(
    mut status: JobStatus,
    before: &JobFacts,
    decision: &JobDecision,
    active: usize,
    now: Timestamp,
) -> JobStatus {
    let job = &decision.job;
    let mut conditions = status.conditions.take().unwrap_or_default();
    let mut set = |name: &str, is: bool, reason: &str, message: &str| {
        conditions.retain(|condition| condition.type_ != name);
        conditions.push(JobCondition {
            type_: name.to_owned(),
            status: if is { "True" } else { "False" }.to_owned(),
            last_probe_time: Some(Time(now)),
            last_transition_time: Some(Time(now)),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
        });
    };
    if job.suspended && !before.has_suspended_condition {
        set("Suspended", true, "JobSuspended", "Job suspended");
    } else if !job.suspended && before.has_suspended_condition {
        set("Suspended", false, "JobResumed", "Job resumed");
    }
    if let Some(failure) = &job.failure {
        if before.failure.is_none() {
            set("FailureTarget", true, &failure.reason, &failure.message);
        }
        if job.is_failed && !before.is_failed {
            set("Failed", true, &failure.reason, &failure.message);
        }
    }
    if job.is_succeeding {
        let words = ("CompletionsReached", "Reached expected number of succeeded pods");
        if !before.is_succeeding {
            set("SuccessCriteriaMet", true, words.0, words.1);
        }
        if job.is_complete && !before.is_complete {
            set("Complete", true, words.0, words.1);
        }
    }
    // Kubernetes omits these counts when they are zero.
    let positive = |number: i32| (number > 0).then_some(number);
    if job.is_complete && !before.is_complete {
        status.completion_time = job.ended.map(Time);
    }
    JobStatus {
        start_time: job.started.map(Time),
        active: positive(saturate(active)),
        succeeded: positive(saturate(job.succeeded)),
        failed: positive(saturate(job.failed)),
        ready: Some(saturate(decision.ready)),
        terminating: Some(saturate(decision.terminating)),
        uncounted_terminated_pods: Some(UncountedTerminatedPods::default()),
        conditions: Some(conditions).filter(|conditions| !conditions.is_empty()),
        ..status
    }
}

fn saturate(count: impl TryInto<i32>) -> i32 {
    count.try_into().unwrap_or(i32::MAX)
}
