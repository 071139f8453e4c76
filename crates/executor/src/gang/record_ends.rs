//! Records on a Job how its node has ended, as long as its pod still says so.
//!
//! A pod that has ended may be deleted at any time: with the machine that it ran on, by the garbage collection of
//! Kubernetes, or by somebody who tidies up. The Job then only says that it has failed, which would look like a disruption
//! and run an ended task again.

use serde_json::json;

use super::patch::{ObjectPatch, patch_jobs};
use super::task::ManagedTask;
use crate::cache::{Cache, Job, NodeEnd, Pod, unrecorded_end};
use crate::error::Error;
use crate::kubernetes::{ApiClient, ObjectRef};
use crate::labels;

/// Records the ends of nodes that only their pods have.
///
/// # Errors
/// A failure of Kubernetes.
pub(super) async fn record_ends(client: &ApiClient, cache: &Cache, task: &ManagedTask) -> Result<(), Error> {
    let end = |(job, pod): &(Job, Option<Pod>)| Some((job.object_ref(), unrecorded_end(job, pod.as_ref())?));
    let record = |(job, end): (ObjectRef, NodeEnd)| {
        let annotations = json!({labels::END: end.to_annotation()});
        ObjectPatch::of(job, json!({"metadata": {"annotations": annotations}}))
    };
    let patches: Vec<ObjectPatch> = task.nodes.iter().filter_map(end).map(record).collect();
    if patches.is_empty() {
        return Ok(());
    }
    patch_jobs(client, cache, "record how a node has ended", patches).await
}
