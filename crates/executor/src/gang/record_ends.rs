//! Records on a Job how its node has ended, as long as its pod still says so.
//!
//! A pod that has ended may be deleted at any time: with the machine that it ran on, by the garbage collection of
//! Kubernetes, or by somebody who tidies up. The Job then only says that it has failed, which would look like a disruption
//! and run an ended task again.

use serde_json::json;

use super::patch::{ObjectPatch, patch_jobs};
use super::task::ManagedTask;
use crate::cache::{Attempts, Cache, Job, JobEnd, NodeEnd, Phase, Pod, Task, newest_pods, unrecorded_end};
use crate::error::Error;
use crate::kubernetes::{ApiClient, ObjectRef};
use crate::labels;

/// Whether the end of a node of the current attempt has yet to be recorded.
pub(super) fn has_unrecorded_end(task: &Task) -> bool {
    let has_reason = |pod: &Pod| matches!(&pod.phase, Phase::Ended(end) if end.reason.is_some());
    let may_have_one = |job: &Job| match job.end {
        Some(JobEnd::Failed(_)) => job.recorded_end.is_none(),
        // It may have been evicted, and have ended well nevertheless.
        Some(JobEnd::Complete) => job.recorded_end.is_none() && task.pods.iter().any(has_reason),
        None => false,
    };
    let current = Attempts::of(&task.jobs).current;
    if !current.iter().any(may_have_one) {
        return false;
    }
    let newest = newest_pods(&task.pods);
    let mut ended = current.iter();
    ended.any(|job| unrecorded_end(job, newest.get(job.uid.as_str()).copied()).is_some())
}

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
