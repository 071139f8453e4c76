//! Names of our Kubernetes objects.

use task::Name;

/// The name of the Job of a node. It derives from the task, so that two servers cannot create the same Job twice.
#[must_use]
pub(crate) fn job_name(name: &Name, id: &str, rank: u32, num_nodes: u32, attempt: u32) -> String {
    name.object_name(&match (num_nodes, attempt) {
        (1, 1) => id.to_owned(),
        (_, 1) => format!("{id}-node-{rank}"),
        (_, attempt) => format!("{id}-node-{rank}-attempt-{attempt}"),
    })
}

/// The name of the object that reserves an `Idempotency-Key` with this token, whatever task is submitted.
#[must_use]
pub(crate) fn key_object_name(token: &str) -> String {
    format!("key-{token}")
}
