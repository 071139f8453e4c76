//! Removes what a failed submit left behind.
//!
//! A failed submit may have been repeated with the same `Idempotency-Key`, and the repeat may have succeeded. An object
//! is therefore removed only by the try that created it, and only before it is committed, in the version that was seen
//! uncommitted: nobody can have been given its ID yet. Without a key there are no repeats.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use tokio::time::{Instant, sleep, timeout};

use crate::cache::TaskOwner;
use crate::error::Error;
use crate::kubernetes::{self, ApiClient, ConfigMap, ObjectRef, ResourceExt};
use crate::labels;
use crate::manifest::Submission;
use crate::tokens;

const ACTION: &str = "clean up after a failed submit";

/// How many Jobs are deleted concurrently.
const CONCURRENT_DELETES: usize = 32;

/// How long the caller waits for the cleanup. After that, it continues in the background.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// How often, and for how long, the cleanup is repeated if Kubernetes does not answer, or a create may still be in
/// flight there. A kube-apiserver aborts a request after one minute.
pub(crate) const PAUSE: Duration = Duration::from_secs(2);
pub(crate) const IN_FLIGHT: Duration = Duration::from_secs(90);
const LIMIT: Duration = Duration::from_secs(600);

/// What became of a submit with a key that failed here.
pub(crate) enum SubmitOutcome {
    /// The task exists, for every request with the key.
    Committed(Box<TaskOwner>),
    /// The objects of this try are gone. Objects of another try, and unreadable ones, are left alone.
    RolledBack,
}

/// What became of a task with a key whose submit failed here, or `None` if Kubernetes does not answer in time.
pub(crate) async fn resolve_outcome(client: &ApiClient, submission: &Submission) -> Option<SubmitOutcome> {
    timeout(PATIENCE, resolve_once(client, submission)).await.ok()?.ok()
}

async fn resolve_once(client: &ApiClient, submission: &Submission) -> Result<SubmitOutcome, Error> {
    let name = submission.owner_name();
    loop {
        let Some(owner) = client.get::<ConfigMap>(ACTION, &name).await? else {
            return Ok(SubmitOutcome::RolledBack);
        };
        let annotations = owner.annotations();
        let is_committed = annotations.contains_key(labels::COMMITTED);
        let is_ours = tokens::submission(annotations) == Some(&submission.token);
        let is_this_try = is_ours && annotations.get(labels::TRY) == Some(&submission.try_token);
        let is_same = is_ours
            && submission
                .fingerprint
                .matches(annotations.get(labels::FINGERPRINT).map(String::as_str));
        if submission.is_keyed() && is_committed && is_same {
            let owner = TaskOwner::from_metadata(&owner.metadata);
            return Ok(owner.map_or(SubmitOutcome::RolledBack, |owner| {
                SubmitOutcome::Committed(Box::new(owner))
            }));
        }
        if !is_this_try {
            return Ok(SubmitOutcome::RolledBack);
        }
        match remove_owned(client, &owner).await {
            // Somebody changed the owner, perhaps to commit it, so look again.
            Err(error) if error.is_conflict() => {}
            removed => return removed.map(|()| SubmitOutcome::RolledBack),
        }
    }
}

/// Deletes an owner in the version that was seen, and its Jobs, which garbage collection would delete only later.
async fn remove_owned(client: &ApiClient, owner: &ConfigMap) -> Result<(), Error> {
    let uid = owner.uid().unwrap_or_default();
    let reference = ObjectRef::new(&owner.name_any(), &uid);
    let seen = reference.version(owner.metadata.resource_version.as_deref());
    client.delete::<ConfigMap>(ACTION, seen).await?;
    let Some(id) = owner.labels().get(labels::TASK_ID) else {
        return Ok(());
    };
    let jobs = client
        .list::<kubernetes::Job>(ACTION, &format!("{}={id}", labels::TASK_ID))
        .await?;
    let is_owned = |job: &kubernetes::Job| job.owner_references().iter().any(|owner| owner.uid == uid);
    stream::iter(jobs.into_iter().filter(is_owned))
        .map(|job| remove_job(client, job))
        .buffer_unordered(CONCURRENT_DELETES)
        .try_collect()
        .await
}

async fn remove_job(client: &ApiClient, job: kubernetes::Job) -> Result<(), Error> {
    let job = ObjectRef::new(&job.name_any(), &job.uid().unwrap_or_default());
    client
        .delete::<kubernetes::Job>(ACTION, job.any_version())
        .await
        .map(drop)
}

/// Removes everything that a failed submit may have left. Tries again in the background while Kubernetes does not
/// answer, or while a request that failed may still take effect (`is_ambiguous`).
pub(crate) async fn roll_back(client: &ApiClient, submission: &Submission, is_ambiguous: bool) {
    let start = Instant::now();
    let first = timeout(PATIENCE, roll_back_once(client, submission)).await;
    if matches!(first, Ok(Ok(()))) && !is_ambiguous {
        return;
    }
    let (client, submission) = (client.clone(), submission.clone());
    tokio::spawn(async move {
        while start.elapsed() < LIMIT {
            sleep(PAUSE).await;
            let is_over = !is_ambiguous || start.elapsed() >= IN_FLIGHT;
            if roll_back_once(&client, &submission).await.is_ok() && is_over {
                return;
            }
        }
        tracing::error!(
            task_id = %submission.id,
            "objects of a failed submit may remain; delete everything with this `task-id` label"
        );
    });
}

pub(crate) async fn roll_back_once(client: &ApiClient, submission: &Submission) -> Result<(), Error> {
    if submission.needs_owner() {
        return resolve_once(client, submission).await.map(drop);
    }
    match client.get::<kubernetes::Job>(ACTION, &submission.base_name()).await? {
        Some(job) if tokens::submission(job.annotations()) == Some(&submission.token) => remove_job(client, job).await,
        _ => Ok(()),
    }
}
