//! Labels that make a task wait in a Kueue queue: on its single Job, or on the pods of its nodes as a group.

use std::collections::BTreeMap;

use super::submission::Submission;
use crate::cache::HeldJob;
use crate::kubernetes::ObjectMeta;
use crate::labels;

/// The queue labels for the Job of a task with one node. Kueue suspends the Job until it is admitted. A Job that waits
/// for its group gets them later.
pub(super) fn job_labels(submission: &Submission) -> Vec<(String, String)> {
    match submission.queue() {
        Some(queue) if submission.definition.num_nodes == 1 && submission.group.is_none() => {
            queue_labels(submission, queue)
        }
        Some(_) | None => Vec::new(),
    }
}

/// What the Job of a task in a group waits to enter.
pub(super) fn held_job(submission: &Submission) -> Option<HeldJob> {
    submission.group.as_ref()?;
    let queue = submission.queue().filter(|_| submission.definition.num_nodes == 1);
    Some(HeldJob {
        queue: queue.map(str::to_owned),
        priority: queue.and(submission.definition.resources.priority_class.clone()),
    })
}

fn queue_labels(submission: &Submission, queue: &str) -> Vec<(String, String)> {
    let priority = submission.definition.resources.priority_class.clone();
    let priority = priority.map(|class| (labels::QUEUE_PRIORITY.to_owned(), class));
    let queue = (labels::QUEUE.to_owned(), queue.to_owned());
    [queue].into_iter().chain(priority).collect()
}

/// Adds the queue labels to the pod template of a gang.
///
/// Kueue admits Jobs one by one, so two gangs could each hold part of the quota and wait forever. It admits the pods of
/// a group together or not at all
/// (<https://kueue.sigs.k8s.io/docs/tasks/run/plain_pods/#running-a-group-of-pods-to-be-admitted-together>).
pub(super) fn configure_pod_metadata(pod: &mut ObjectMeta, submission: &Submission) {
    let Some(queue) = submission.group_queue() else {
        return;
    };
    let group = (labels::POD_GROUP.to_owned(), group_name(submission.id.as_str(), 1));
    let pod_labels = pod.labels.get_or_insert_default();
    pod_labels.extend(queue_labels(submission, queue));
    pod_labels.extend([group]);
    pod.annotations.get_or_insert_default().extend([
        (
            labels::POD_GROUP_COUNT.to_owned(),
            submission.definition.num_nodes.to_string(),
        ),
        // Release the quota once all pods have finished, even if some failed: the next attempt is a new group.
        (labels::RETRIABLE_IN_GROUP.to_owned(), "false".to_owned()),
    ]);
}

/// Moves a pod template to the group of another attempt.
pub(super) fn move_to_attempt(labels: &mut BTreeMap<String, String>, id: &str, attempt: u32) {
    if let Some(name) = labels.get_mut(labels::POD_GROUP) {
        *name = group_name(id, attempt);
    }
}

fn group_name(id: &str, attempt: u32) -> String {
    match attempt {
        1 => format!("task-{id}"),
        attempt => format!("task-{id}-attempt-{attempt}"),
    }
}
