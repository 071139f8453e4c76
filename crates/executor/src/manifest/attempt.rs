//! The Job of a node that is run again, from the one that has failed.

use task::Name;

use crate::kubernetes::{Job, ObjectMeta};
use crate::labels;

/// Labels that Kubernetes adds to the pods of a Job; another Job must not have them.
const OF_THE_JOB: [&str; 4] = [
    "batch.kubernetes.io/controller-uid",
    "batch.kubernetes.io/job-name",
    "controller-uid",
    "job-name",
];

/// The Job of the same node in attempt number `attempt`, before which the task has failed by itself `restarts` times.
///
/// The name follows from the attempt, so that two servers that do this make one Job.
#[must_use]
pub fn next_attempt(job: Job, name: &Name, attempt: u32, restarts: u32) -> Job {
    let label = |name: &str| job.metadata.labels.as_ref()?.get(name).cloned();
    let suffix = format!(
        "{}-node-{}-attempt-{attempt}",
        label(labels::TASK_ID).unwrap_or_default(),
        label(labels::NODE_INDEX).unwrap_or_default()
    );
    let mut annotations = job.metadata.annotations.unwrap_or_default();
    for of_the_attempt_before in [labels::ENDED_BECAUSE_OF, labels::GAVE_WAY_AT, labels::GAVE_WAY] {
        annotations.remove(of_the_attempt_before);
    }
    annotations.extend([
        (labels::ATTEMPT.to_owned(), attempt.to_string()),
        (labels::RESTARTS.to_owned(), restarts.to_string()),
    ]);
    let mut spec = job.spec;
    if let Some(spec) = &mut spec {
        spec.selector = None;
        spec.active_deadline_seconds = None;
        spec.suspend = None;
        if let Some(labels) = spec
            .template
            .metadata
            .as_mut()
            .and_then(|metadata| metadata.labels.as_mut())
        {
            labels.retain(|label, _| !OF_THE_JOB.contains(&label.as_str()));
        }
    }
    Job {
        metadata: ObjectMeta {
            name: Some(name.object_name(&suffix)),
            labels: job.metadata.labels.map(|mut labels| {
                labels.retain(|label, _| !OF_THE_JOB.contains(&label.as_str()));
                labels
            }),
            annotations: Some(annotations),
            owner_references: job.metadata.owner_references,
            ..ObjectMeta::default()
        },
        spec,
        status: None,
    }
}
