//! Ends gangs one of whose Jobs was deleted: the other nodes would wait, or hold their resources, forever.

use std::sync::Arc;
use std::time::Duration;

use task::Name;

use super::decide::end_all;
use super::reconcile::apply;
use super::refetch::refetch;
use super::task::ManagedTask;
use crate::cache::{Cache, EndCause, TaskKey};
use crate::controller::ControllerContext;
use crate::debounce::Debounce;
use crate::error::Error;
use crate::kubernetes::{self, ApiClient};
use crate::names;
use crate::unlabeled::is_owned;

/// How often tasks are checked. A check only reads the cache.
const INTERVAL: Duration = Duration::from_secs(1);

/// Ends incomplete gangs until shutdown.
pub(crate) async fn run(context: ControllerContext) {
    let mut ticker = context.ticker(INTERVAL);
    let mut debounce = Debounce::default();
    while ticker.tick().await.is_some() {
        let mut tasks = incomplete_gangs(&context.cache);
        // Skip tasks whose remaining nodes are already being ended.
        tasks.retain(|(_, task)| {
            missing_rank(task).is_some_and(|rank| !end_all(task, EndCause::NodeFailed(rank)).is_empty())
        });
        for (key, task) in debounce.confirmed(tasks) {
            if context.stop.is_cancelled() {
                break;
            }
            if let Err(error) = end(&context, &key, &task).await {
                context.warn(&format!("missing {} {error}", key.id), || {
                    tracing::warn!(task_id = %key.id, %error, "failed to end a task with a deleted Job; retrying");
                });
            }
        }
    }
}

/// The gangs with fewer Jobs than nodes.
fn incomplete_gangs(cache: &Cache) -> Vec<(Arc<TaskKey>, ManagedTask)> {
    ManagedTask::select(cache, |task| {
        let is_gang = task.jobs.last().is_some_and(|job| job.gang.is_some());
        let nodes = task.snapshot.as_ref().map_or(0, |snapshot| snapshot.num_nodes);
        is_gang && task.current_jobs().len() < nodes as usize
    })
}

async fn end(context: &ControllerContext, key: &Arc<TaskKey>, task: &ManagedTask) -> Result<(), Error> {
    let Some(task) = refetch(&context.client, key, task).await? else {
        return Ok(());
    };
    let Some(rank) = missing_rank(&task) else { return Ok(()) };
    // A Job that lost its labels is in no list, but still runs.
    if job_exists(&context.client, &task, rank).await? {
        return Ok(());
    }
    tracing::info!(event = "job_deleted", task_id = %key.id, rank, "the Job of a node was deleted; ending the other nodes");
    for action in end_all(&task, EndCause::NodeFailed(rank)) {
        apply(&context.client, &context.cache, action).await?;
    }
    Ok(())
}

async fn job_exists(client: &ApiClient, task: &ManagedTask, rank: u32) -> Result<bool, Error> {
    let (Some((job, _)), Some(owner)) = (task.nodes.first(), &task.owner) else {
        return Ok(false);
    };
    let Some(name) = Name::new(&job.task_name) else {
        return Ok(false);
    };
    let name = names::job_name(&name, &job.key.id, rank, task.num_nodes, job.attempt);
    let job = client
        .get::<kubernetes::Job>("look up the Job of a node", &name)
        .await?;
    Ok(job.is_some_and(|job| is_owned(&job, owner)))
}

/// The first node without a Job that the next-attempt logic will not create either.
fn missing_rank(task: &ManagedTask) -> Option<u32> {
    let has_job = |rank: &u32| task.nodes.iter().any(|(job, _)| job.rank == *rank);
    let will_be_created = |rank: &u32| task.previous.iter().any(|job| job.rank == *rank);
    // A task without any Job is handled by `orphans`.
    let job_exists = !task.nodes.is_empty();
    (0..task.num_nodes).find(|rank| job_exists && !has_job(rank) && !will_be_created(rank))
}

#[cfg(test)]
mod tests {
    use super::ManagedTask;
    use super::missing_rank;
    use crate::cache::Job;

    #[test]
    fn a_node_is_missing_when_nothing_will_make_its_job() {
        let mut task = ManagedTask {
            num_nodes: 3,
            nodes: vec![(Job::example(0, 3), None), (Job::example(2, 3), None)],
            ..ManagedTask::default()
        };
        assert_eq!(missing_rank(&task), Some(1));
        task.previous = vec![Job::example(1, 3)];
        assert_eq!(missing_rank(&task), None);
    }
}
