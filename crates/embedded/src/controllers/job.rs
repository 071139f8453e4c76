//! The Job controller: carries out what [`super::job_decision`] decides.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::deletion::{DeleteOptions, delete_object, remove_if_finalized};
use super::events::EventRecorder;
use super::job_decision::{JobDecision, JobFacts, JobFailure, PodEnd, PodFacts, decide};
use super::quota::check_quota;
use crate::object::{Kind, Object, format_time};
use crate::resources::{JOB_TRACKING_FINALIZER, prepare_for_create};
use crate::status_error::StatusError;
use crate::store::Transaction;

const EVENTS: EventRecorder = EventRecorder::new("job-controller");

/// Delay between counting a Job's pods and finishing the Job, so that clients that watch both see the reason first.
const COUNT_DELAY: Duration = Duration::from_millis(5);

/// Delay before retrying to create a pod.
const RETRY_DELAY: Duration = Duration::from_secs(2);

/// Maximum length of the part of a Job's name that its pods' names begin with. A dash and five random characters
/// follow, so that pod names have at most 63 characters.
const MAX_POD_PREFIX: usize = 57;

/// Reconciles a Job; returns when to reconcile it again, if it must be.
pub(super) fn reconcile(transaction: &mut Transaction<'_>, object: Object) -> Result<Option<Duration>, StatusError> {
    let mut pods = transaction.list_dependents(object.uid())?;
    pods.retain(|pod| pod.kind == Kind::Pod);
    let facts: Vec<PodFacts> = pods.iter().map(pod_facts).collect();
    let before = job_facts(&object);
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
    for _ in 0..decision.create {
        if let Err(error) = create_pod(transaction, &object) {
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
    write_status(&mut changed, &before, &decision, active, transaction.now);
    transaction.update(changed)?;
    Ok(requeue_after)
}

fn create_pod(transaction: &mut Transaction<'_>, job: &Object) -> Result<(), StatusError> {
    let template = &job.value["spec"]["template"];
    let prefix = job.name();
    let mut cut = prefix.len().min(MAX_POD_PREFIX);
    while !prefix.is_char_boundary(cut) {
        cut -= 1;
    }
    let mut pod = Object::new(
        Kind::Pod,
        json!({
            "metadata": {
                "name": format!("{}-{}", &prefix[..cut], transaction.random.suffix()),
                "generateName": format!("{}-", &prefix[..cut]),
                "namespace": job.namespace(),
                "creationTimestamp": format_time(transaction.now),
                "generation": 1,
                "ownerReferences": [{
                    "apiVersion": "batch/v1", "kind": "Job", "name": job.name(), "uid": job.uid(),
                    "controller": true, "blockOwnerDeletion": true,
                }],
                "finalizers": [JOB_TRACKING_FINALIZER],
            },
            "spec": template["spec"],
        }),
    );
    pod.set("uid", transaction.random.uid());
    for field in ["labels", "annotations"] {
        if template["metadata"][field].is_object() {
            pod.set(field, template["metadata"][field].clone());
        }
    }
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

fn parse_time(value: &Value) -> Option<Timestamp> {
    value.as_str()?.parse().ok()
}

fn condition<'a>(object: &'a Object, kind: &str) -> Option<&'a Value> {
    let conditions = object.value["status"]["conditions"].as_array()?;
    conditions
        .iter()
        .find(|condition| condition["type"] == kind && condition["status"] == "True")
}

fn job_facts(job: &Object) -> JobFacts {
    let (spec, status) = (&job.value["spec"], &job.value["status"]);
    let failed = condition(job, "Failed");
    let failing = failed.or_else(|| condition(job, "FailureTarget"));
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let ended = failed.or_else(|| condition(job, "Complete"));
    JobFacts {
        parallelism: spec["parallelism"].as_i64().unwrap_or(1),
        completions: spec["completions"].as_i64(),
        backoff_limit: spec["backoffLimit"].as_i64().unwrap_or(6),
        active_deadline: spec["activeDeadlineSeconds"].as_i64(),
        ttl: spec["ttlSecondsAfterFinished"].as_i64(),
        suspended: spec["suspend"].as_bool().unwrap_or(false),
        deleting: job.is_deleting(),
        started: parse_time(&status["startTime"]),
        ended: ended.and_then(|condition| parse_time(&condition["lastTransitionTime"])),
        succeeded: status["succeeded"].as_i64().unwrap_or(0),
        failed: status["failed"].as_i64().unwrap_or(0),
        has_suspended_condition: condition(job, "Suspended").is_some(),
        failure: failing.map(|condition| JobFailure {
            reason: text(&condition["reason"]),
            message: text(&condition["message"]),
        }),
        is_failed: failed.is_some(),
        is_succeeding: condition(job, "SuccessCriteriaMet").is_some() || condition(job, "Complete").is_some(),
        is_complete: condition(job, "Complete").is_some(),
    }
}

fn pod_facts(pod: &Object) -> PodFacts {
    let status = &pod.value["status"];
    let phase = status["phase"].as_str().unwrap_or_default();
    let finished = parse_time(&status["containerStatuses"][0]["state"]["terminated"]["finishedAt"]);
    let created = parse_time(&pod.value["metadata"]["creationTimestamp"]).unwrap_or_default();
    PodFacts {
        end: matches!(phase, "Succeeded" | "Failed").then(|| PodEnd {
            succeeded: phase == "Succeeded",
            at: finished.unwrap_or(created),
        }),
        ready: condition(pod, "Ready").is_some(),
        deleting: pod.is_deleting(),
        tracked: pod.finalizers().contains(&JOB_TRACKING_FINALIZER),
    }
}

fn write_status(object: &mut Object, before: &JobFacts, decision: &JobDecision, active: usize, now: Timestamp) {
    let job = &decision.job;
    let mut conditions: Vec<Value> = object.value["status"]["conditions"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let stamp = format_time(now);
    let mut set = |kind: &str, is: bool, reason: &str, message: &str| {
        conditions.retain(|condition| condition["type"] != kind);
        conditions.push(json!({
            "type": kind, "status": if is { "True" } else { "False" }, "lastProbeTime": stamp,
            "lastTransitionTime": stamp, "reason": reason, "message": message,
        }));
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
    if !object.value["status"].is_object() {
        object.value["status"] = json!({});
    }
    let Value::Object(status) = &mut object.value["status"] else {
        return;
    };
    let mut put = |field: &str, value: Value| {
        if value.is_null() || value == 0 {
            status.shift_remove(field);
        } else {
            status.insert(field.to_owned(), value);
        }
    };
    put("startTime", job.started.map(format_time).into());
    put("active", active.into());
    put("succeeded", job.succeeded.into());
    put("failed", job.failed.into());
    if job.is_complete && !before.is_complete {
        put("completionTime", job.ended.map(format_time).into());
    }
    status.insert("ready".to_owned(), decision.ready.into());
    status.insert("terminating".to_owned(), decision.terminating.into());
    status.insert("uncountedTerminatedPods".to_owned(), json!({}));
    if !conditions.is_empty() {
        status.insert("conditions".to_owned(), conditions.into());
    }
}
