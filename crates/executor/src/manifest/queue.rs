//! What makes a task wait in a queue of Kueue: its one Job, or the pods of its nodes as a group.

use std::collections::BTreeMap;

use super::Submission;
use crate::kubernetes::ObjectMeta;
use crate::labels;

/// The label of the Job of a task with one node. Kueue suspends the Job until it is let in.
pub(super) fn of_job(submission: &Submission) -> Option<(String, String)> {
    let queue = submission.definition.kubernetes.local_queue_name.clone()?;
    (submission.definition.num_nodes == 1).then(|| (labels::QUEUE.to_owned(), queue))
}

/// Completes what the pods of several nodes are made with.
///
/// Kueue lets in Jobs one by one, so that two tasks could hold a part of the quota each and wait for ever; the pods of a group it
/// lets in together, or not at all (<https://kueue.sigs.k8s.io/docs/tasks/run/plain_pods/#running-a-group-of-pods-to-be-admitted-together>).
pub(super) fn complete(pod: &mut ObjectMeta, submission: &Submission) {
    let Some(queue) = submission.queue_of_group() else {
        return;
    };
    pod.labels.get_or_insert_default().extend([
        (labels::QUEUE.to_owned(), queue.to_owned()),
        (labels::POD_GROUP.to_owned(), group(submission.id.as_str(), 1)),
    ]);
    pod.annotations.get_or_insert_default().extend([
        (
            labels::POD_GROUP_COUNT.to_owned(),
            submission.definition.num_nodes.to_string(),
        ),
        // The quota is free when all have ended, however they did; another attempt is another group.
        (labels::RETRIABLE_IN_GROUP.to_owned(), "false".to_owned()),
    ]);
}

/// Moves a pod of a group to the group of another attempt.
pub(super) fn next_group(labels: &mut BTreeMap<String, String>, id: &str, attempt: u32) {
    if let Some(name) = labels.get_mut(labels::POD_GROUP) {
        *name = group(id, attempt);
    }
}

fn group(id: &str, attempt: u32) -> String {
    match attempt {
        1 => format!("task-{id}"),
        attempt => format!("task-{id}-attempt-{attempt}"),
    }
}
