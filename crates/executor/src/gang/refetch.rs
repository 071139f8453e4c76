//! Reads a task from Kubernetes before an irreversible step, because the watch cache may lag.

use task::TaskState;

use super::task::ManagedTask;
use crate::cache::{Cache, Job, Pod, TaskKey, TaskOwner};
use crate::error::Error;
use crate::kubernetes::{self, ApiClient, ConfigMap};
use crate::labels;

const ACTION: &str = "refresh the task";

/// How the task has ended for good, according to Kubernetes, or `None` if it has not, or is gone.
pub(crate) async fn refetch_outcome(
    client: &ApiClient,
    cache: &Cache,
    key: &TaskKey,
) -> Result<Option<TaskState>, Error> {
    let Some(known) = cache.find(key, ManagedTask::any_from_cache).flatten() else {
        return Ok(None);
    };
    let now = refetch(client, key, &known).await?;
    Ok(now.and_then(|now| now.outcome()))
}

/// The current state of the task, or `None` if it is gone or being deleted.
pub(crate) async fn refetch(
    client: &ApiClient,
    key: &TaskKey,
    task: &ManagedTask,
) -> Result<Option<ManagedTask>, Error> {
    let selector = format!("{}={}", labels::TASK_ID, key.id);
    let owner = async {
        match &task.owner {
            Some(owner) => client.get::<ConfigMap>(ACTION, &owner.name).await,
            None => Ok(None),
        }
    };
    // Read the owner first: its turn must not be newer than the Jobs it is compared with.
    let owner = owner
        .await?
        .and_then(|owner| TaskOwner::from_metadata(&owner.metadata).ok());
    let is_same = |known: &TaskOwner| {
        owner
            .as_ref()
            .is_some_and(|owner| owner.uid == known.uid && !owner.terminating)
    };
    if task.owner.as_ref().is_some_and(|known| !is_same(known)) {
        return Ok(None);
    }
    let (jobs, pods) = tokio::try_join!(
        client.list::<kubernetes::Job>(ACTION, &selector),
        client.list::<kubernetes::Pod>(ACTION, &selector),
    )?;
    let jobs = jobs.into_iter().filter_map(|job| Job::from_resource(job).ok());
    let jobs: Vec<Job> = jobs.filter(|job| *job.key == *key).collect();
    let pods: Vec<Pod> = pods
        .into_iter()
        .filter_map(|pod| Pod::from_resource(pod).ok())
        .collect();
    let mut now = ManagedTask::of(owner, jobs, &pods, task.num_nodes);
    let is_going = now.nodes.iter().all(|(job, _)| job.terminating.is_some());
    // Only events say why a pod is not created, and they are not read again here.
    now.is_pod_rejected = task.is_pod_rejected && now.nodes.iter().any(|(_, pod)| pod.is_none());
    Ok((!is_going).then_some(now))
}
