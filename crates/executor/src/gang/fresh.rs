//! A second look, at Kubernetes itself, before something is done that cannot be undone: a watch may be behind.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::cache::{GangTask, Job, Pod};
use crate::error::Error;
use crate::kubernetes::{self, Calls};
use crate::labels;

/// How long something must have looked wrong before Kubernetes is asked.
pub const PATIENCE: Duration = Duration::from_secs(3);

/// Since when tasks have looked wrong.
#[derive(Debug, Default)]
pub struct Suspicions(HashMap<String, Instant>);

impl Suspicions {
    /// Those of the tasks that look wrong now that have done so for a while.
    pub fn lasting(&mut self, wrong: Vec<(String, GangTask)>) -> Vec<(String, GangTask)> {
        self.0.retain(|id, _| wrong.iter().any(|(known, _)| known == id));
        let mut lasts = |id: &String| self.0.entry(id.clone()).or_insert_with(Instant::now).elapsed() >= PATIENCE;
        wrong.into_iter().filter(|(id, _)| lasts(id)).collect()
    }
}

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
