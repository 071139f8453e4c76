//! Submitting a task: all of its objects, or none.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};
use task::{Id, Name, TaskDefinition, UserName};
use tokio::time::{sleep, timeout};

use crate::cache::{Cache, Job, TaskOwner};
use crate::error::Error;
use crate::executor::Defaults;
use crate::kubernetes::{self, Calls, ConfigMap, Created, OwnerReference};
use crate::labels;
use crate::manifest::{self, Submission};
use crate::volumes;

/// How many Jobs of one task are created at once: the API server takes this many without queueing, and one task must
/// not hold all of its attention.
const CONCURRENT_CREATES: usize = 32;

/// How long the creation of a task may take: a base, and more for each node.
const DEADLINE: Duration = Duration::from_secs(20);
const DEADLINE_PER_NODE: Duration = Duration::from_millis(50);

/// How many identifiers are tried. The first is free but for one in a million million.
const ID_TRIES: usize = 4;

/// How long a caller waits for what its failed submit left to be removed; after that it goes on without the caller.
const UNDO_PATIENCE: Duration = Duration::from_secs(5);

/// How long the objects of a failed submit are looked for, when Kubernetes does not answer.
const UNDO_PAUSE: Duration = Duration::from_secs(1);
const UNDO_TRIES: usize = 300;

/// What is submitted, and how it can be recognised when it comes again.
#[derive(Debug, Clone)]
pub struct Request {
    /// Who asks.
    pub user: UserName,
    /// What is asked for.
    pub definition: TaskDefinition,
    /// The `Idempotency-Key` of the request.
    pub idempotency_key: Option<String>,
}

/// Makes a task and returns its identifier.
pub(crate) async fn submit(
    calls: &Calls,
    cache: &Cache,
    request: Request,
    defaults: Defaults,
) -> Result<String, Error> {
    let fingerprint = labels::hash(&[format!("{:?}", request.definition).as_bytes()]);
    // Before anything else is asked: the volumes of a task that was made long ago may be gone.
    if let Some(known) = repeated(cache, &request, &fingerprint)? {
        return Ok(known);
    }
    let claims = volumes::resolve(calls, cache, &request.user, &request.definition.volumes).await?;
    for attempt in 0..ID_TRIES {
        let submission = submission(&request, defaults, claims.clone(), fingerprint.clone(), attempt);
        // Another task has the identifier under another name; the create would not notice.
        if request.idempotency_key.is_none() && cache.knows(submission.id.as_str()) {
            continue;
        }
        match make(calls, cache, &submission).await? {
            Made::Task => return Ok(submission.id.to_string()),
            Made::OtherDefinition => return Err(Error::IdempotencyKeyReused),
            Made::Nothing => {}
        }
    }
    Err(Error::NoFreeId { tries: ID_TRIES })
}

/// The Kubernetes objects that a submit would make, checked by Kubernetes. Nothing is made.
pub(crate) async fn dry_run(
    calls: &Calls,
    cache: &Cache,
    request: Request,
    defaults: Defaults,
) -> Result<Vec<Value>, Error> {
    const ACTION: &str = "check the Job";
    let claims = volumes::resolve(calls, cache, &request.user, &request.definition.volumes).await?;
    let submission = submission(&request, defaults, claims, String::new(), 0);
    let jobs: Vec<kubernetes::Job> = (0..submission.definition.num_nodes)
        .map(|rank| manifest::job(&submission, rank, None))
        .collect();
    // They differ in their rank only.
    calls.check(ACTION, &jobs[0]).await?;
    let mut objects = Vec::new();
    if submission.needs_owner() {
        let owner = manifest::owner(&submission, submission.created_at);
        objects.push(encoded(&owner)?);
    }
    if submission.definition.num_nodes > 1 {
        objects.push(encoded(&manifest::service(&submission, None))?);
    }
    for job in &jobs {
        objects.push(encoded(job)?);
    }
    Ok(objects)
}

fn encoded(object: &impl Serialize) -> Result<Value, Error> {
    serde_json::to_value(object).map_err(|source| Error::Encoding { source })
}

/// What an attempt came to.
enum Made {
    /// The task is there.
    Task,
    /// The name belongs to a task of another submission.
    Nothing,
    /// The name belongs to this submission with another definition.
    OtherDefinition,
}

fn submission(
    request: &Request,
    defaults: Defaults,
    claims: Vec<String>,
    fingerprint: String,
    attempt: usize,
) -> Submission {
    let name = request.definition.name.as_ref();
    let (id, token) = match &request.idempotency_key {
        Some(key) => {
            let parts = [request.user.as_str(), key.as_str()].map(str::as_bytes);
            // The name is a part of it: two definitions under one key must not share an identifier.
            let name = name.map_or("", Name::as_str).as_bytes();
            let id = Id::derived(&[parts[0], parts[1], name, &attempt.to_be_bytes()]);
            (id, key_token(&request.user, key))
        }
        None => (Id::random(), format!("{}{}", Id::random(), Id::random())),
    };
    Submission {
        name: name.cloned().unwrap_or_else(|| Name::generated("task", &id)),
        id,
        user: request.user.clone(),
        definition: request.definition.clone(),
        claims,
        created_at: Timestamp::now(),
        token,
        fingerprint,
        defaults,
    }
}

/// The task that the same `Idempotency-Key` has made before.
fn repeated(cache: &Cache, request: &Request, fingerprint: &str) -> Result<Option<String>, Error> {
    let Some(key) = &request.idempotency_key else {
        return Ok(None);
    };
    match cache.submitted(&request.user, &key_token(&request.user, key)) {
        None => Ok(None),
        Some((_, known)) if known.as_deref() != Some(fingerprint) => Err(Error::IdempotencyKeyReused),
        Some((id, _)) => Ok(Some(id)),
    }
}

/// What tells the submissions under a key from all others.
fn key_token(user: &UserName, key: &str) -> String {
    labels::hash(&[user.as_str().as_bytes(), key.as_bytes()])
}

async fn make(calls: &Calls, cache: &Cache, submission: &Submission) -> Result<Made, Error> {
    let limit = DEADLINE + DEADLINE_PER_NODE * submission.definition.num_nodes;
    let attempt = async {
        if submission.needs_owner() {
            make_owned(calls, cache, submission, limit).await
        } else {
            make_single(calls, cache, submission).await
        }
    };
    match timeout(limit, attempt).await {
        Ok(made) => made,
        Err(_) => {
            undo(calls, submission).await;
            Err(Error::SubmitDeadline { limit })
        }
    }
}

/// One Job is a whole task: its create is the moment at which the task exists.
async fn make_single(calls: &Calls, cache: &Cache, submission: &Submission) -> Result<Made, Error> {
    let created = match calls
        .create("create the Job", &manifest::job(submission, 0, None))
        .await
    {
        Ok(created) => created,
        Err(error) => {
            if error.is_transient() {
                undo(calls, submission).await;
            }
            return Err(error);
        }
    };
    let job = match created {
        Created::Ours(job) => job,
        Created::Taken(_) => return Ok(Made::Nothing),
    };
    let Some(job) = Job::from_resource(job) else {
        return Ok(Made::Nothing);
    };
    if job.fingerprint.as_deref() != Some(submission.fingerprint.as_str()) {
        return Ok(Made::OtherDefinition);
    }
    cache.made(None, vec![job]);
    Ok(Made::Task)
}

/// Several objects are a task when their owner is committed; until then nobody sees them, and whoever finds the owner
/// after its deadline removes it.
async fn make_owned(calls: &Calls, cache: &Cache, submission: &Submission, limit: Duration) -> Result<Made, Error> {
    let deadline = submission.created_at + limit;
    let created = calls
        .create("create the owner of the task", &manifest::owner(submission, deadline))
        .await;
    let owner = match created {
        Ok(Created::Ours(owner)) => owner,
        Ok(Created::Taken(_)) => return Ok(Made::Nothing),
        Err(error) => {
            if error.is_transient() {
                undo(calls, submission).await;
            }
            return Err(error);
        }
    };
    if !has_fingerprint(&owner, submission) {
        return Ok(Made::OtherDefinition);
    }
    // The same request twice at once makes the Jobs together, and all of them must say the same.
    let submission = &Submission {
        created_at: made_at(&owner).unwrap_or(submission.created_at),
        ..submission.clone()
    };
    match make_jobs(calls, submission, &owner).await {
        Ok((owner, jobs)) => {
            cache.made(TaskOwner::from_metadata(&owner.metadata), jobs);
            Ok(Made::Task)
        }
        Err(error) => {
            undo(calls, submission).await;
            Err(error)
        }
    }
}

fn made_at(owner: &ConfigMap) -> Option<Timestamp> {
    task::time::parse(owner.metadata.annotations.as_ref()?.get(labels::CREATED_AT)?)
}

fn has_fingerprint(owner: &ConfigMap, submission: &Submission) -> bool {
    let annotations = owner.metadata.annotations.as_ref();
    annotations.and_then(|annotations| annotations.get(labels::FINGERPRINT)) == Some(&submission.fingerprint)
}

/// The Jobs, all at once, then the commit. The same request twice at once makes the same Jobs together.
async fn make_jobs(calls: &Calls, submission: &Submission, owner: &ConfigMap) -> Result<(ConfigMap, Vec<Job>), Error> {
    let uid = owner.metadata.uid.clone().unwrap_or_default();
    let reference = OwnerReference {
        api_version: "v1".to_owned(),
        kind: "ConfigMap".to_owned(),
        name: submission.base_name(),
        uid: uid.clone(),
        ..OwnerReference::default()
    };
    let jobs = stream::iter(0..submission.definition.num_nodes)
        .map(|rank| make_node(calls, submission, rank, &reference))
        .buffer_unordered(CONCURRENT_CREATES)
        .try_filter_map(|job| async move { Ok(Job::from_resource(job)) })
        .try_collect::<Vec<Job>>();
    let (jobs, ()) = tokio::try_join!(jobs, make_service(calls, submission, &reference))?;
    let commit = json!({"metadata": {"annotations": {labels::COMMITTED: labels::TRUE}}});
    let committed = calls
        .merge::<ConfigMap>("commit the task", &submission.base_name(), &uid, commit)
        .await?;
    // Someone deleted the owner meanwhile: the Jobs are going, and there is no task.
    let owner = committed.ok_or(Error::SubmitDeadline { limit: DEADLINE })?;
    Ok((owner, jobs))
}

/// Host names are a convenience: where Kubernetes refuses a Service (no right, a quota, a policy), the task runs without them.
async fn make_service(calls: &Calls, submission: &Submission, owner: &OwnerReference) -> Result<(), Error> {
    if submission.definition.num_nodes == 1 {
        return Ok(());
    }
    let service = manifest::service(submission, Some(owner));
    match calls.create("create the Service of the task", &service).await {
        Err(error) if !error.is_transient() => {
            tracing::warn!(task_id = %submission.id, %error, "the nodes of a task have no host names");
            Ok(())
        }
        made => made.map(drop),
    }
}

async fn make_node(
    calls: &Calls,
    submission: &Submission,
    rank: u32,
    owner: &OwnerReference,
) -> Result<kubernetes::Job, Error> {
    let manifest = manifest::job(submission, rank, Some(owner));
    match calls.create("create a Job of the task", &manifest).await? {
        Created::Ours(job) => Ok(job),
        Created::Taken(_) => Err(Error::NoFreeId { tries: 1 }),
    }
}

/// Removes whatever a failed submit may have left. When Kubernetes does not answer, it is asked again later: the request
/// that failed may still have arrived.
async fn undo(calls: &Calls, submission: &Submission) {
    if let Ok(Ok(())) = timeout(UNDO_PATIENCE, undo_once(calls, submission)).await {
        return;
    }
    let (calls, submission) = (calls.clone(), submission.clone());
    tokio::spawn(async move {
        for _ in 0..UNDO_TRIES {
            sleep(UNDO_PAUSE).await;
            if undo_once(&calls, &submission).await.is_ok() {
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
    const ACTION: &str = "remove what a failed submit left";
    let token = Some(submission.token.as_str());
    let is_ours =
        |metadata: &kubernetes::ObjectMeta| metadata.annotations.as_ref().and_then(labels::submission) == token;
    if submission.needs_owner()
        && let Some(owner) = calls.get::<ConfigMap>(ACTION, &submission.base_name()).await?
        && is_ours(&owner.metadata)
    {
        let uid = owner.metadata.uid.unwrap_or_default();
        calls
            .delete::<ConfigMap>(ACTION, &submission.base_name(), &uid, None)
            .await?;
    }
    // The owner's deletion takes the Jobs with it, some time later; the caller shall find none now.
    let selector = format!("{}={}", labels::TASK_ID, submission.id);
    let jobs = calls.list::<kubernetes::Job>(ACTION, &selector).await?;
    stream::iter(jobs.into_iter().filter(|job| is_ours(&job.metadata)))
        .map(|job| async move {
            let (name, uid) = (
                job.metadata.name.unwrap_or_default(),
                job.metadata.uid.unwrap_or_default(),
            );
            calls.delete::<kubernetes::Job>(ACTION, &name, &uid, None).await
        })
        .buffer_unordered(CONCURRENT_CREATES)
        .try_collect()
        .await
}
