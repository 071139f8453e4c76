//! Finds Jobs that no watch shows, because somebody removed their labels, by their names.

use task::Name;

use crate::cache::TaskOwner;
use crate::error::Error;
use crate::kubernetes::{self, ApiClient, ObjectRef};
use crate::names;

/// Whether a task has a Job of its current attempt that is not among those `seen`. Such a task is not over, whatever the
/// cache shows.
pub(crate) async fn has_unlabeled_job(
    client: &ApiClient,
    owner: &TaskOwner,
    seen: &[ObjectRef],
) -> Result<bool, Error> {
    let Some(name) = Name::new(&owner.task_name) else {
        return Ok(true);
    };
    let attempt = owner.turn.map_or(1, |turn| turn.attempt);
    for rank in 0..owner.num_nodes {
        let name = names::job_name(&name, &owner.key.id, rank, owner.num_nodes, attempt);
        if seen.iter().any(|seen| seen.name == name) {
            continue;
        }
        let job = client.get::<kubernetes::Job>("refresh the task", &name).await?;
        if job.is_some_and(|job| is_owned(&job, owner)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a Job belongs to a task, regardless of its labels.
pub(crate) fn is_owned(job: &kubernetes::Job, owner: &TaskOwner) -> bool {
    let mut owners = job.metadata.owner_references.iter().flatten();
    owners.any(|reference| reference.uid == owner.uid)
}
