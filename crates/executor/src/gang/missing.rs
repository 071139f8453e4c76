//! Nodes whose Job somebody has deleted: the others would wait for them, or hold their machines, for ever.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::control::act;
use super::decide::end_all;
use crate::cache::GangTask;
use crate::error::Error;
use crate::kubernetes::{self, Calls};
use crate::labels;
use crate::ticks::Background;

/// How often tasks are looked at. It is a look into memory.
const INTERVAL: Duration = Duration::from_secs(1);

/// How long a Job must have been missing before Kubernetes is asked for it: the watch of Jobs may be behind that of owners.
const PATIENCE: Duration = Duration::from_secs(3);

/// Ends tasks one of whose Jobs was deleted, until the process stops.
pub(crate) async fn end_incomplete(background: Background) {
    let mut ticks = background.every(INTERVAL);
    let mut since: HashMap<String, Instant> = HashMap::new();
    while ticks.next().await.is_some() {
        let tasks = background.cache.incomplete();
        since.retain(|id, _| tasks.iter().any(|(known, _)| known == id));
        for (id, task) in tasks {
            let waited = since.entry(id.clone()).or_insert_with(Instant::now).elapsed();
            if waited < PATIENCE {
                continue;
            }
            if let Err(error) = end(&background, &id, &task).await {
                tracing::warn!(task_id = id, %error, "a task that lacks a Job could not be ended; trying again");
            }
        }
    }
}

async fn end(background: &Background, id: &str, task: &GangTask) -> Result<(), Error> {
    let Some(rank) = missing(task) else { return Ok(()) };
    if is_there(&background.calls, id, rank, task).await? {
        return Ok(());
    }
    let actions = end_all(task, rank);
    if actions.is_empty() {
        return Ok(());
    }
    tracing::info!(
        event = "job_deleted",
        task_id = id,
        rank,
        "the Job of a node is gone; the others are ended"
    );
    for action in actions {
        act(&background.calls, &background.cache, action).await?;
    }
    Ok(())
}

/// The first node that has no Job, and will be given none from the attempt before.
fn missing(task: &GangTask) -> Option<u32> {
    let has_job = |rank: &u32| task.nodes.iter().any(|(job, _)| job.rank == *rank);
    let is_to_be_made = |rank: &u32| task.before.iter().any(|job| job.rank == *rank);
    (0..task.num_nodes).find(|rank| !has_job(rank) && !is_to_be_made(rank))
}

/// Whether Kubernetes has the Job after all.
async fn is_there(calls: &Calls, id: &str, rank: u32, task: &GangTask) -> Result<bool, Error> {
    let selector = format!("{}={id},{}={rank}", labels::TASK_ID, labels::NODE_INDEX);
    let jobs = calls
        .list::<kubernetes::Job>("look for the Job of a node", &selector)
        .await?;
    let attempt = task.nodes.first().map_or(1, |(job, _)| job.attempt);
    let mut jobs = jobs.into_iter().filter_map(crate::cache::Job::from_resource);
    Ok(jobs.any(|job| job.attempt == attempt))
}

#[cfg(test)]
mod tests {
    use super::missing;
    use crate::cache::{GangTask, Job};

    #[test]
    fn a_node_is_missing_when_nothing_will_make_its_job() {
        let mut task = GangTask {
            num_nodes: 3,
            nodes: vec![(Job::example(0, 3), None), (Job::example(2, 3), None)],
            ..GangTask::default()
        };
        assert_eq!(missing(&task), Some(1));
        task.before = vec![Job::example(1, 3)];
        assert_eq!(missing(&task), None);
    }
}
