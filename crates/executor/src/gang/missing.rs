//! Ends gangs one of whose Jobs was deleted: the other nodes would wait, or hold their resources, forever.

use std::sync::Arc;
use std::time::Duration;

use task::Name;

use super::control::act;
use super::decide::end_all;
use super::fresh::fresh;
use crate::cache::{GangTask, TaskKey};
use crate::error::Error;
use crate::kubernetes::{self, Calls, ResourceExt};
use crate::labels;
use crate::suspicions::Suspicions;
use crate::ticks::Background;

/// How often tasks are checked. A check only reads the cache.
const INTERVAL: Duration = Duration::from_secs(1);

/// Ends incomplete gangs until shutdown.
pub(crate) async fn end_incomplete(background: Background) {
    let mut ticks = background.every(INTERVAL);
    let mut suspicions = Suspicions::default();
    while ticks.next().await.is_some() {
        let mut tasks = background.cache.incomplete();
        // Skip tasks whose remaining nodes are already being ended.
        tasks.retain(|(_, task)| missing(task).is_some_and(|rank| !end_all(task, rank).is_empty()));
        for (key, task) in suspicions.lasting(tasks) {
            if background.stop.is_cancelled() {
                break;
            }
            if let Err(error) = end(&background, &key, &task).await {
                background.warn(&format!("missing {} {error}", key.id), || {
                    tracing::warn!(task_id = %key.id, %error, "failed to end a task with a deleted Job; retrying");
                });
            }
        }
    }
}

async fn end(background: &Background, key: &Arc<TaskKey>, task: &GangTask) -> Result<(), Error> {
    let Some(task) = fresh(&background.calls, key, task).await? else {
        return Ok(());
    };
    let Some(rank) = missing(&task) else { return Ok(()) };
    // A Job that lost its labels is in no list, but still runs.
    if is_there(&background.calls, &task, rank).await? {
        return Ok(());
    }
    tracing::info!(event = "job_deleted", task_id = %key.id, rank, "the Job of a node was deleted; ending the other nodes");
    for action in end_all(&task, rank) {
        act(&background.calls, &background.cache, action).await?;
    }
    Ok(())
}

async fn is_there(calls: &Calls, task: &GangTask, rank: u32) -> Result<bool, Error> {
    let (Some((job, _)), Some(owner)) = (task.nodes.first(), &task.owner) else {
        return Ok(false);
    };
    let Some(name) = Name::new(&job.task_name) else {
        return Ok(false);
    };
    let name = labels::job_name(&name, &job.key.id, rank, task.num_nodes, job.attempt);
    let job = calls.get::<kubernetes::Job>("look up the Job of a node", &name).await?;
    Ok(job.is_some_and(|job| {
        job.owner_references()
            .iter()
            .any(|reference| reference.uid == owner.uid)
    }))
}

/// The first node without a Job that the next-attempt logic will not create either.
fn missing(task: &GangTask) -> Option<u32> {
    let has_job = |rank: &u32| task.nodes.iter().any(|(job, _)| job.rank == *rank);
    let is_to_be_made = |rank: &u32| task.before.iter().any(|job| job.rank == *rank);
    // A task without any Job is handled by `sweep`.
    let is_there = !task.nodes.is_empty();
    (0..task.num_nodes).find(|rank| is_there && !has_job(rank) && !is_to_be_made(rank))
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
