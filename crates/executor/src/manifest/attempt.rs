//! Builds the Job of the next attempt from the failed one.

use std::collections::BTreeMap;

use task::Name;

use super::{alternatives, fetch, queue};
use crate::kubernetes::{Job, ObjectMeta};
use crate::labels;
use crate::names;

/// Labels that the Job controller adds for one specific Job, and that another Job must not have.
const CONTROLLER_LABELS: [&str; 4] = [
    "batch.kubernetes.io/controller-uid",
    "batch.kubernetes.io/job-name",
    "controller-uid",
    "job-name",
];

/// The Job of the same node in attempt number `attempt`, before which the task has failed by itself `restarts` times.
///
/// The name derives from the attempt, so that two servers that do this create only one Job. Returns `None` for a Job
/// that this program did not create.
#[must_use]
pub fn next_attempt(job: Job, attempt: u32, restarts: u32) -> Option<Job> {
    let labels = job.metadata.labels?;
    let mut annotations = job.metadata.annotations?;
    let name = Name::new(annotations.get(labels::EXACT_NAME)?)?;
    let id = labels.get(labels::TASK_ID)?.clone();
    let rank = labels.get(labels::NODE_INDEX)?.parse().ok()?;
    let num_nodes = annotations.get(labels::NUM_NODES)?.parse().ok()?;
    for annotation in [
        labels::ENDED_BECAUSE_OF,
        labels::HELD,
        labels::GAVE_WAY_AT,
        labels::GAVE_WAY,
        labels::EXIT_CODE,
        labels::END,
    ] {
        annotations.remove(annotation);
    }
    let was_scheduled = annotations.remove(labels::PROVISION_TIMED_OUT).is_none();
    annotations.extend([
        (labels::ATTEMPT.to_owned(), attempt.to_string()),
        (labels::RESTARTS.to_owned(), restarts.to_string()),
    ]);
    let mut spec = job.spec;
    if let Some(spec) = &mut spec {
        if !was_scheduled && let Some(alternatives) = annotations.remove(labels::ALTERNATIVES) {
            // If somebody has changed them, this attempt is the last.
            if let Some((pods, others)) = alternatives::next(&spec.template, &alternatives) {
                spec.template = pods;
                annotations.extend(others.map(|others| (labels::ALTERNATIVES.to_owned(), others)));
            }
        }
        spec.selector = None;
        spec.active_deadline_seconds = None;
        spec.suspend = None;
        if let Some(pod) = &mut spec.template.spec {
            fetch::move_to_attempt(pod, attempt);
        }
        if let Some(labels) = spec
            .template
            .metadata
            .as_mut()
            .and_then(|metadata| metadata.labels.as_mut())
        {
            *labels = without_controller_labels(std::mem::take(labels));
            queue::move_to_attempt(labels, &id, attempt);
        }
    }
    Some(Job {
        metadata: ObjectMeta {
            name: Some(names::job_name(&name, &id, rank, num_nodes, attempt)),
            labels: Some(without_controller_labels(labels)),
            annotations: Some(annotations),
            owner_references: job.metadata.owner_references,
            ..ObjectMeta::default()
        },
        spec,
        status: None,
    })
}

fn without_controller_labels(mut labels: BTreeMap<String, String>) -> BTreeMap<String, String> {
    labels.retain(|label, _| !CONTROLLER_LABELS.contains(&label.as_str()));
    labels
}
