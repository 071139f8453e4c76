//! A second look, at Kubernetes itself, before something is done that cannot be undone: a watch may be behind.

use crate::cache::{GangTask, Job, Pod};
use crate::error::Error;
use crate::kubernetes::{self, Calls};
use crate::labels;

/// The task as Kubernetes has it now.
///
/// # Errors
/// Kubernetes was not reached, or refused.
pub async fn fresh(calls: &Calls, id: &str, task: &GangTask) -> Result<GangTask, Error> {
    const ACTION: &str = "look at a task again";
    let selector = format!("{}={id}", labels::TASK_ID);
    let jobs = calls.list::<kubernetes::Job>(ACTION, &selector).await?;
    let pods = calls.list::<kubernetes::Pod>(ACTION, &selector).await?;
    let pods: Vec<Pod> = pods.into_iter().filter_map(Pod::from_resource).collect();
    let jobs = jobs.into_iter().filter_map(Job::from_resource).collect();
    Ok(GangTask::of(jobs, &pods, task.num_nodes))
}
