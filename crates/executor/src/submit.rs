//! Submitting a task: all of its objects, or none.
//!
//! A task without an `Idempotency-Key` that is one Job exists when that Job does. Every other one has an owner, and exists when
//! that is committed. The owner of a task with a key is called after the key, whatever the task is like: so the key is
//! reserved by the create of one object, and who comes second joins the first, or is refused.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};
use task::{Id, Name, TaskDefinition, UserName};
use tokio::time::timeout;

use crate::cache::{Cache, Job, TaskOwner};
use crate::error::Error;
use crate::kubernetes::{self, Calls, ConfigMap, Created, OwnerReference, Target};
use crate::labels;
use crate::manifest::{self, Submission};
use crate::settings::Settings;
use crate::undo::{Fate, settle, undo};
use crate::volumes;

/// How many Jobs of one task are created at once: the API server takes this many without queueing, and one task must
/// not hold all of its attention.
const CONCURRENT_CREATES: usize = 32;

/// How long the creation of a task may take: a base in which a slow admission webhook may be tried again, and more for each node.
const DEADLINE: Duration = Duration::from_secs(60);
const DEADLINE_PER_NODE: Duration = Duration::from_millis(50);

/// How many identifiers are tried, and how often a task under a key is begun anew because another try of it has gone. The first
/// is right but for one in a million million.
const TRIES: usize = 4;

/// What the API server says of a Job whose pods a Pod Security Standard may refuse.
const VIOLATES_POD_SECURITY: &str = "would violate PodSecurity";

/// The label of a namespace that says what its pods must keep to.
const ENFORCED: &str = "pod-security.kubernetes.io/enforce";

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

/// A task that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submitted {
    /// Its identifier.
    pub id: String,
    /// What Kubernetes warns of.
    pub warnings: Vec<String>,
}

/// Makes a task.
pub(crate) async fn submit(
    calls: &Calls,
    cache: &Cache,
    request: Request,
    settings: &Settings,
) -> Result<Submitted, Error> {
    let fingerprint = labels::hash(&[format!("{:?}", request.definition).as_bytes()]);
    // Before anything else is asked: the volumes of a task that was made long ago may be gone.
    if let Some(id) = repeated(cache, &request, &fingerprint)? {
        let warnings = Vec::new();
        return Ok(Submitted { id, warnings });
    }
    let claims = volumes::resolve(
        calls,
        cache,
        &request.user,
        &request.definition.volumes,
        settings.shared_claims,
    );
    let claims = claims.await?;
    for _ in 0..TRIES {
        let submission = submission(&request, settings, claims.clone(), fingerprint.clone(), calls.now());
        // Another task has the identifier under another name; the create would not notice.
        if cache.knows(submission.id.as_str()) {
            continue;
        }
        match make(calls, cache, &submission).await? {
            Made::Task(submitted) => return Ok(submitted),
            Made::OtherDefinition => return Err(Error::IdempotencyKeyReused),
            Made::Nothing => {}
        }
    }
    Err(Error::NoFreeId { tries: TRIES })
}

/// The most bytes of the Jobs that a dry run shows, all of which are alike but for their rank.
const MAX_DRY_RUN_BYTES: usize = 2 * 1024 * 1024;

/// The Kubernetes objects that a submit would make.
#[derive(Debug)]
pub struct DryRun {
    /// Some of them, if there are very many.
    pub objects: Vec<Value>,
    /// How many Jobs are not among them.
    pub left_out: u32,
}

/// The Kubernetes objects that a submit would make, checked by Kubernetes. Nothing is made.
pub(crate) async fn dry_run(
    calls: &Calls,
    cache: &Cache,
    request: Request,
    settings: &Settings,
) -> Result<DryRun, Error> {
    const ACTION: &str = "check the Job";
    let claims = volumes::resolve(
        calls,
        cache,
        &request.user,
        &request.definition.volumes,
        settings.shared_claims,
    );
    let submission = submission(&request, settings, claims.await?, String::new(), calls.now());
    // They differ in their rank only.
    let first = manifest::job(&submission, 0, None);
    calls.check(ACTION, &first).await?;
    let bytes = serde_json::to_vec(&first)
        .map_err(|source| Error::Encoding { source })?
        .len();
    let num_nodes = submission.definition.num_nodes;
    let shown = u32::try_from(MAX_DRY_RUN_BYTES / bytes)
        .unwrap_or(u32::MAX)
        .clamp(1, num_nodes);
    let mut objects = Vec::new();
    if submission.needs_owner() {
        let owner = manifest::owner(&submission, submission.created_at);
        objects.push(encoded(&owner)?);
    }
    if let Some(environment) = manifest::environment(&submission, None) {
        objects.push(encoded(&environment)?);
    }
    if submission.definition.num_nodes > 1 {
        objects.push(encoded(&manifest::service(&submission, None))?);
    }
    for rank in 0..shown {
        objects.push(encoded(&manifest::job(&submission, rank, None))?);
    }
    Ok(DryRun {
        objects,
        left_out: num_nodes - shown,
    })
}

fn encoded(object: &impl Serialize) -> Result<Value, Error> {
    serde_json::to_value(object).map_err(|source| Error::Encoding { source })
}

/// What an attempt came to.
enum Made {
    /// The task is there.
    Task(Submitted),
    /// The name belongs to a task of another submission, or what this one had joined is gone.
    Nothing,
    /// The key belongs to a task with another definition.
    OtherDefinition,
}

fn submission(
    request: &Request,
    settings: &Settings,
    claims: Vec<String>,
    fingerprint: String,
    now: Timestamp,
) -> Submission {
    let random = || format!("{}{}", Id::random(), Id::random());
    let key = request.idempotency_key.as_ref();
    let id = Id::random();
    let name = request.definition.name.clone();
    Submission {
        name: name.unwrap_or_else(|| Name::generated("task", &id)),
        id,
        user: request.user.clone(),
        definition: request.definition.clone(),
        claims,
        created_at: now,
        token: key.map_or_else(random, |key| labels::key_token(&request.user, key)),
        try_token: random(),
        fingerprint,
        defaults: settings.defaults,
        pods: settings.pods.clone(),
    }
}

/// The task that the same `Idempotency-Key` has made before.
fn repeated(cache: &Cache, request: &Request, fingerprint: &str) -> Result<Option<String>, Error> {
    let Some(key) = &request.idempotency_key else {
        return Ok(None);
    };
    match cache.submitted(&request.user, &labels::key_token(&request.user, key)) {
        None => Ok(None),
        Some((_, known)) if known.as_deref() != Some(fingerprint) => Err(Error::IdempotencyKeyReused),
        Some((id, _)) => Ok(Some(id)),
    }
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
    let made = timeout(limit, attempt)
        .await
        .unwrap_or(Err(Error::SubmitDeadline { limit }));
    let Err(error) = made else { return made };
    if !submission.is_keyed() {
        undo(calls, submission, error.is_ambiguous()).await;
        return Err(error);
    }
    // Whoever commits a task under a key commits it for all who ask for it, also for this request.
    match settle(calls, submission).await {
        Some(Fate::Committed(owner)) => joined(calls, cache, *owner, Vec::new()).await,
        Some(Fate::Undone) => Err(error),
        None => {
            undo(calls, submission, error.is_ambiguous()).await;
            Err(error)
        }
    }
}

/// One Job is a whole task: its create is the moment at which the task exists.
async fn make_single(calls: &Calls, cache: &Cache, submission: &Submission) -> Result<Made, Error> {
    let manifest = manifest::job(submission, 0, None);
    let mut warnings = Vec::new();
    let job = match calls.create("create the Job", &manifest, &mut warnings).await? {
        Created::Made(job) | Created::Shared(job) => job,
        Created::Taken(_) => return Ok(Made::Nothing),
    };
    refuse_hopeless(calls, &warnings).await?;
    cache.made(None, Job::from_resource(job).into_iter().collect());
    Ok(Made::Task(Submitted {
        id: submission.id.to_string(),
        warnings,
    }))
}

/// Several objects are a task when their owner is committed; until then nobody sees them, and whoever finds the owner
/// after its deadline removes it.
async fn make_owned(calls: &Calls, cache: &Cache, submission: &Submission, limit: Duration) -> Result<Made, Error> {
    let deadline = submission.created_at + limit;
    let manifest = manifest::owner(submission, deadline);
    let mut warnings = Vec::new();
    let owner = match calls
        .create("create the owner of the task", &manifest, &mut warnings)
        .await?
    {
        Created::Made(owner) | Created::Shared(owner) => owner,
        // Of a key nobody else has the name; somebody else has made an object that looks like it.
        Created::Taken(_) if submission.is_keyed() => return Err(Error::IdempotencyKeyTaken),
        Created::Taken(_) => return Ok(Made::Nothing),
    };
    let Ok(known) = TaskOwner::from_metadata(&owner.metadata) else {
        return Err(Error::IdempotencyKeyTaken);
    };
    if known.fingerprint.as_ref() != Some(&submission.fingerprint) {
        return Ok(Made::OtherDefinition);
    }
    if known.terminating {
        return Err(Error::IdempotencyKeyTerminating);
    }
    if known.committed {
        return joined(calls, cache, known, warnings).await;
    }
    // Who joins another try makes the same Jobs: all of them must say the same.
    let submission = &submission.joined(&known, made_at(&owner));
    let mut jobs = Vec::new();
    match make_jobs(calls, submission, &owner, &mut jobs, &mut warnings).await? {
        Some(owner) => {
            let unreadable = TaskOwner {
                committed: true,
                ..known
            };
            // Somebody may have taken its labels since; the task is made all the same.
            let owner = TaskOwner::from_metadata(&owner.metadata).unwrap_or(unreadable);
            cache.made(Some(owner), jobs);
            Ok(Made::Task(Submitted {
                id: submission.id.to_string(),
                warnings,
            }))
        }
        // It was undone by the try that had made it, or swept.
        None => Ok(Made::Nothing),
    }
}

/// A task that another try, perhaps through another server, has made: what our watches do not show yet is read, so that whoever
/// is told of it can ask for it here.
async fn joined(calls: &Calls, cache: &Cache, owner: TaskOwner, warnings: Vec<String>) -> Result<Made, Error> {
    let id = owner.key.id.to_string();
    if cache.view(&owner.key).is_none() {
        let selector = format!("{}={id}", labels::TASK_ID);
        let jobs = calls
            .list::<kubernetes::Job>("read the Jobs of the task", &selector)
            .await?;
        let jobs = jobs.into_iter().filter_map(|job| Job::from_resource(job).ok());
        let jobs = jobs.filter(|job| owner.owns(job)).collect();
        cache.made(Some(owner), jobs);
    }
    Ok(Made::Task(Submitted { id, warnings }))
}

fn made_at(owner: &ConfigMap) -> Option<Timestamp> {
    task::time::parse(owner.metadata.annotations.as_ref()?.get(labels::CREATED_AT)?)
}

/// The Jobs, all at once, then the commit. `None` when the owner is gone meanwhile: the Jobs are going, and there is no task.
async fn make_jobs(
    calls: &Calls,
    submission: &Submission,
    owner: &ConfigMap,
    made: &mut Vec<Job>,
    warnings: &mut Vec<String>,
) -> Result<Option<ConfigMap>, Error> {
    let uid = owner.metadata.uid.clone().unwrap_or_default();
    let reference = OwnerReference {
        api_version: "v1".to_owned(),
        kind: "ConfigMap".to_owned(),
        name: submission.owner_name(),
        uid: uid.clone(),
        ..OwnerReference::default()
    };
    let jobs = stream::iter(0..submission.definition.num_nodes)
        .map(|rank| make_node(calls, submission, rank, &reference))
        .buffer_unordered(CONCURRENT_CREATES)
        .try_collect::<Vec<_>>();
    let (jobs, (), ()) = tokio::try_join!(
        jobs,
        make_environment(calls, submission, &reference),
        make_service(calls, submission, &reference)
    )?;
    for (job, warned) in jobs {
        made.extend(job);
        warnings.extend(warned);
    }
    // All Jobs are alike, and so is what is said of them.
    warnings.sort_unstable();
    warnings.dedup();
    refuse_hopeless(calls, warnings).await?;
    let commit = json!({"metadata": {"annotations": {labels::COMMITTED: labels::TRUE}}});
    let target = Target {
        name: &submission.owner_name(),
        uid: &uid,
        version: None,
    };
    calls.merge::<ConfigMap>("commit the task", target, commit).await
}

/// The variables, where each node has no copy of its own.
async fn make_environment(calls: &Calls, submission: &Submission, owner: &OwnerReference) -> Result<(), Error> {
    let Some(environment) = manifest::environment(submission, Some(owner)) else {
        return Ok(());
    };
    match calls
        .create(
            "create the ConfigMap of the task's variables",
            &environment,
            &mut Vec::new(),
        )
        .await?
    {
        Created::Made(_) | Created::Shared(_) => Ok(()),
        Created::Taken(_) => Err(Error::NoFreeId { tries: 1 }),
    }
}

/// Host names are a convenience: where Kubernetes refuses a Service (no right, a quota, a policy), the task runs without them.
async fn make_service(calls: &Calls, submission: &Submission, owner: &OwnerReference) -> Result<(), Error> {
    if submission.definition.num_nodes == 1 {
        return Ok(());
    }
    let service = manifest::service(submission, Some(owner));
    match calls
        .create("create the Service of the task", &service, &mut Vec::new())
        .await
    {
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
) -> Result<(Option<Job>, Vec<String>), Error> {
    let manifest = manifest::job(submission, rank, Some(owner));
    let mut warnings = Vec::new();
    match calls
        .create("create a Job of the task", &manifest, &mut warnings)
        .await?
    {
        // A thousand whole Jobs with their scripts are more than needs to be held.
        Created::Made(job) | Created::Shared(job) => Ok((Job::from_resource(job).ok(), warnings)),
        Created::Taken(_) => Err(Error::NoFreeId { tries: 1 }),
    }
}

/// A Job whose pods the namespace refuses is taken by Kubernetes, with a warning, and waits for ever.
///
/// # Errors
/// [`Error::PodSecurity`], where the namespace enforces what Kubernetes warns of.
async fn refuse_hopeless(calls: &Calls, warnings: &[String]) -> Result<(), Error> {
    let Some(warning) = warnings.iter().find(|warning| warning.contains(VIOLATES_POD_SECURITY)) else {
        return Ok(());
    };
    // Without the right to read the namespace it is not known whether it only warns.
    let labels = calls.namespace_labels().await?.unwrap_or_default();
    match labels.get(ENFORCED) {
        Some(level) if warning.contains(&format!("\"{level}:")) => Err(Error::PodSecurity {
            namespace: calls.namespace().to_owned(),
            level: level.clone(),
            warning: warning.clone(),
        }),
        _ => Ok(()),
    }
}
