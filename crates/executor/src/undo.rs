//! Removing what a failed submit has left.
//!
//! A submit that failed may be repeated with the same `Idempotency-Key`, and the repeat may have been answered. So an object is
//! removed only by the try that made it, and only while nobody can have been told of it: before the commit, in the version
//! that was seen uncommitted. Without a key nobody else can have asked for it.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use tokio::time::{Instant, sleep, timeout};

use crate::cache::TaskOwner;
use crate::error::Error;
use crate::kubernetes::{self, Calls, ConfigMap, ResourceExt, Target};
use crate::labels;
use crate::manifest::Submission;

const ACTION: &str = "remove what a failed submit left";

/// How many Jobs are deleted at once.
const CONCURRENT_DELETES: usize = 32;

/// How long a caller waits for what its failed submit left to be removed; after that it goes on without the caller.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often it is looked for, and for how long, when Kubernetes does not answer, or a create may still be under way there. An API
/// server gives up a request after a minute.
const PAUSE: Duration = Duration::from_secs(2);
const IN_FLIGHT: Duration = Duration::from_secs(90);
const LIMIT: Duration = Duration::from_secs(600);

/// What became of a task under a key.
pub(crate) enum Fate {
    /// It is there, for everybody who asks for it.
    Committed(Box<TaskOwner>),
    /// What this try made of it is gone; what another made, or nobody can read, is left to that one.
    Undone,
}

/// Decides what becomes of a task under a key whose submit has failed here; `None` when Kubernetes does not say in time.
pub(crate) async fn settle(calls: &Calls, submission: &Submission) -> Option<Fate> {
    timeout(PATIENCE, settle_once(calls, submission)).await.ok()?.ok()
}

async fn settle_once(calls: &Calls, submission: &Submission) -> Result<Fate, Error> {
    let name = submission.owner_name();
    loop {
        let Some(owner) = calls.get::<ConfigMap>(ACTION, &name).await? else {
            return Ok(Fate::Undone);
        };
        let annotations = owner.annotations();
        let is_committed = annotations.contains_key(labels::COMMITTED);
        let is_ours = labels::submission(annotations) == Some(&submission.token);
        let is_this_try = is_ours && annotations.get(labels::TRY) == Some(&submission.try_token);
        let is_same = is_ours && annotations.get(labels::FINGERPRINT) == Some(&submission.fingerprint);
        if submission.is_keyed() && is_committed && is_same {
            let owner = TaskOwner::from_metadata(&owner.metadata);
            return Ok(owner.map_or(Fate::Undone, |owner| Fate::Committed(Box::new(owner))));
        }
        if !is_this_try {
            return Ok(Fate::Undone);
        }
        match remove_owned(calls, &owner).await {
            // Somebody has changed it since: perhaps it is committed now.
            Err(error) if error.is_conflict() => {}
            removed => return removed.map(|()| Fate::Undone),
        }
    }
}

/// Removes an owner, in the version that was seen, and the Jobs that are its own: Kubernetes would take some time for them.
async fn remove_owned(calls: &Calls, owner: &ConfigMap) -> Result<(), Error> {
    let uid = owner.uid().unwrap_or_default();
    let target = Target {
        name: &owner.name_any(),
        uid: &uid,
        version: owner.metadata.resource_version.as_deref(),
    };
    calls.delete::<ConfigMap>(ACTION, target).await?;
    let Some(id) = owner.labels().get(labels::TASK_ID) else {
        return Ok(());
    };
    let jobs = calls
        .list::<kubernetes::Job>(ACTION, &format!("{}={id}", labels::TASK_ID))
        .await?;
    let is_owned = |job: &kubernetes::Job| job.owner_references().iter().any(|owner| owner.uid == uid);
    stream::iter(jobs.into_iter().filter(is_owned))
        .map(|job| remove_job(calls, job))
        .buffer_unordered(CONCURRENT_DELETES)
        .try_collect()
        .await
}

async fn remove_job(calls: &Calls, job: kubernetes::Job) -> Result<(), Error> {
    let target = Target {
        name: &job.name_any(),
        uid: &job.uid().unwrap_or_default(),
        version: None,
    };
    calls.delete::<kubernetes::Job>(ACTION, target).await.map(drop)
}

/// Removes whatever a failed submit may have left. When Kubernetes does not answer it is asked again later, and when a request
/// that failed may still arrive (`is_ambiguous`), it is looked for as long as it may.
pub(crate) async fn undo(calls: &Calls, submission: &Submission, is_ambiguous: bool) {
    let start = Instant::now();
    let first = timeout(PATIENCE, undo_once(calls, submission)).await;
    if matches!(first, Ok(Ok(()))) && !is_ambiguous {
        return;
    }
    let (calls, submission) = (calls.clone(), submission.clone());
    tokio::spawn(async move {
        while start.elapsed() < LIMIT {
            sleep(PAUSE).await;
            let is_over = !is_ambiguous || start.elapsed() >= IN_FLIGHT;
            if undo_once(&calls, &submission).await.is_ok() && is_over {
                return;
            }
        }
        tracing::error!(
            task_id = %submission.id,
            "the objects of a failed submit may be left; delete what has this `task-id` label"
        );
    });
}

async fn undo_once(calls: &Calls, submission: &Submission) -> Result<(), Error> {
    if submission.needs_owner() {
        return settle_once(calls, submission).await.map(drop);
    }
    match calls.get::<kubernetes::Job>(ACTION, &submission.base_name()).await? {
        Some(job) if labels::submission(job.annotations()) == Some(&submission.token) => remove_job(calls, job).await,
        _ => Ok(()),
    }
}
