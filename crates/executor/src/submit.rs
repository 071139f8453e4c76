//! Submits a task: creates all of its objects, or none.
//!
//! A task that consists of one Job and has no `Idempotency-Key` exists as soon as its Job does. Every other task has an
//! owner, and exists once the owner is committed. With a key, the owner's name derives from the key alone, so that a
//! single create reserves the key: a second submit with the same key joins the first one, or is rejected.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use task::validation::LocItem;
use task::{Id, Name, TaskDefinition, UserName};
use tokio::time::timeout;

use crate::cache::{Cache, Job, TaskOwner};
use crate::delivery::{self, Delivery};
use crate::error::Error;
use crate::fingerprint::Fingerprint;
use crate::kubernetes::{self, ApiClient, ConfigMap, ObjectRef};
use crate::labels;
use crate::manifest::{self, Submission};
use crate::owned_objects::{check_pod_security, create_owned_objects, owner_reference};
use crate::placement::{Inventory, Placement, choose};
use crate::pod_config::{self, PRIORITY_CLASS};
use crate::rollback::{SubmitOutcome, resolve_outcome, roll_back};
use crate::settings::Settings;
use crate::tokens::{self, Shape};
use crate::volumes::{self, ResolvedClaim};

/// The time limit of a submit: a base that leaves room to retry through a slow admission webhook, plus a share for each
/// node.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);
pub(crate) const DEADLINE_PER_NODE: Duration = Duration::from_millis(50);

/// How long a submit waits for the list of cluster nodes, if only warnings depend on it.
const WARNING_PATIENCE: Duration = Duration::from_secs(1);

/// How many IDs are tried, and how often a submit with a key starts over because the try it had joined was undone. A
/// collision of random IDs is practically impossible, so the first ID works.
pub(crate) const TRIES: usize = 4;

/// A request to submit a task or, with another `Definition`, a group of tasks.
#[derive(Debug, Clone)]
pub struct SubmitRequest<Definition = TaskDefinition> {
    /// The user who submits it.
    pub user: UserName,
    /// The validated task or group.
    pub definition: Definition,
    /// The `Idempotency-Key` of the request, which identifies it when it is repeated.
    pub idempotency_key: Option<String>,
}

/// The result of a submit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submitted {
    /// The ID of the task.
    pub id: String,
    /// Warnings about the cluster nodes that the task may use, and those of the Kubernetes API.
    pub warnings: Vec<String>,
}

pub(crate) async fn submit(
    client: &ApiClient,
    cache: &Cache,
    inventory: &Inventory,
    request: SubmitRequest,
    settings: &Settings,
) -> Result<Submitted, Error> {
    let fingerprint = Fingerprint::of(&request.definition)?;
    // Check this before the volumes, which may be gone if the task was submitted long ago.
    if let Some(id) = find_repeated(cache, &request, &fingerprint)? {
        let warnings = Vec::new();
        return Ok(Submitted { id, warnings });
    }
    check_pod_fields(&request.definition, settings)?;
    let claims = resolve_claims(client, cache, &request.user, &request.definition, settings).await?;
    let placement = place(client, inventory, &request.definition, &claims, settings).await?;
    let files = delivery::resolve(settings, &request.user, &request.definition).await?;
    for _ in 0..TRIES {
        let placed = (claims.clone(), placement.clone(), files.clone());
        let submission = submission(&request, settings, placed, fingerprint.clone(), client.now());
        // The create would not notice another task with this ID, because object names also contain the task name.
        if cache.contains_id(submission.id.as_str()) {
            continue;
        }
        let outcome = try_submit(client, cache, &submission).await;
        match outcome.map_err(|error| explain_rejection(error, &submission.definition))? {
            TryOutcome::Submitted(mut submitted) => {
                submitted.warnings.splice(0..0, placement.warnings);
                return Ok(submitted);
            }
            TryOutcome::KeyReused => return Err(Error::IdempotencyKeyReused),
            TryOutcome::TryAgain => {}
        }
    }
    Err(Error::NoFreeId { tries: TRIES })
}

/// Checks the fields of the pod that the task sets itself.
pub(crate) fn check_pod_fields(definition: &TaskDefinition, settings: &Settings) -> Result<(), Error> {
    let allowed = &settings.pods.allowed_fields;
    if let Some(config) = &definition.kubernetes.pod_config {
        pod_config::check(config, allowed, settings.pods.security)?;
    }
    let account = definition.kubernetes.service_account.as_ref();
    if let Some(reason) = account.and_then(|account| allowed.reject_service_account(account)) {
        let loc = ["body", "config", "kubernetes", "remote_identity"];
        let loc = loc.map(LocItem::from).to_vec();
        return Err(Error::PodConfig { loc, reason });
    }
    let all = definition.alternatives.iter().flat_map(|all| &all.resources);
    let mut all = all.chain([&definition.resources]);
    if all.any(|resources| resources.priority_class.is_some()) && !allowed.allows(PRIORITY_CLASS) {
        return Err(Error::PodConfig {
            loc: ["body", "resources", "priority_class"].map(LocItem::from).to_vec(),
            reason: format!(
                "the server does not let tasks choose a priority; its operator can allow it with `--allow-pod-config {PRIORITY_CLASS}`"
            ),
        });
    }
    Ok(())
}

/// A pod that Kubernetes rejects is a mistake of the task if the task sets its fields.
pub(crate) fn explain_rejection(error: Error, definition: &TaskDefinition) -> Error {
    let has_fields = definition.kubernetes.pod_config.is_some();
    if has_fields && error.is_invalid() {
        let source = Box::new(error);
        return Error::PodConfigRejected { source };
    }
    error
}

/// The PersistentVolumeClaims of the volumes that the task mounts.
pub(crate) async fn resolve_claims(
    client: &ApiClient,
    cache: &Cache,
    user: &UserName,
    definition: &TaskDefinition,
    settings: &Settings,
) -> Result<Vec<Option<ResolvedClaim>>, Error> {
    volumes::resolve(client, cache, user, definition, settings.shared_claims).await
}

/// Chooses the cluster nodes that the task may use, and checks that they can share its volumes. Lists them only if that
/// depends on them.
pub(crate) async fn place(
    client: &ApiClient,
    inventory: &Inventory,
    definition: &TaskDefinition,
    claims: &[Option<ResolvedClaim>],
    settings: &Settings,
) -> Result<Placement, Error> {
    let warning = volumes::check_shared(client, inventory, definition, claims, settings.is_autoscaled).await?;
    let mut placement = choose_nodes(client, inventory, definition, settings).await?;
    placement.warnings.extend(warning);
    if !placement.next.is_empty() {
        placement.warnings.push(tell_next(definition, settings));
    }
    Ok(placement)
}

/// Says when a task that takes its alternatives in order goes on to the next one.
fn tell_next(definition: &TaskDefinition, settings: &Settings) -> String {
    match settings.defaults.provision_timeout_of(definition) {
        Some(limit) => format!(
            "tries the next alternative if its nodes are not scheduled within the `provision_timeout` of {}s",
            limit.as_secs()
        ),
        None => "set `config.kubernetes.provision_timeout` to try the next alternative if its nodes are not scheduled in time"
            .to_owned(),
    }
}

async fn choose_nodes(
    client: &ApiClient,
    inventory: &Inventory,
    definition: &TaskDefinition,
    settings: &Settings,
) -> Result<Placement, Error> {
    let resources = &definition.resources;
    let is_selective = definition.alternatives.is_some() || resources.spot || resources.accelerators.is_some();
    let has_amounts = [&resources.cpus, &resources.memory, &resources.disk]
        .into_iter()
        .any(Option::is_some);
    if !is_selective && !has_amounts {
        return Ok(Placement {
            resources: resources.clone(),
            ..Placement::default()
        });
    }
    let listing = inventory.machines(client);
    let machines = if is_selective {
        listing.await?
    } else {
        // The amounts of CPU, memory, and disk only cause warnings, which nobody should wait for.
        timeout(WARNING_PATIENCE, listing)
            .await
            .ok()
            .and_then(Result::ok)
            .flatten()
    };
    choose(definition, machines.as_deref(), settings.is_autoscaled)
}

/// The outcome of one try to create a task.
enum TryOutcome {
    /// The task exists.
    Submitted(Submitted),
    /// The name belongs to another submission, or the try that this one joined was undone. Try again.
    TryAgain,
    /// The key belongs to a task with a different definition.
    KeyReused,
}

pub(crate) fn submission(
    request: &SubmitRequest,
    settings: &Settings,
    (claims, placement, files): (Vec<Option<ResolvedClaim>>, Placement, Delivery),
    fingerprint: Fingerprint,
    now: Timestamp,
) -> Submission {
    let key = request.idempotency_key.as_ref();
    let id = Id::random();
    let submission = Submission {
        name: name_of(request, &id),
        id,
        user: request.user.clone(),
        definition: TaskDefinition {
            resources: placement.resources.clone(),
            ..request.definition.clone()
        },
        claims: claims.into_iter().map(|claim| claim.map(|claim| claim.name)).collect(),
        placement,
        files,
        files_owner: "".into(),
        created_at: now,
        token: key.map_or_else(String::new, |key| tokens::key_token(&request.user, key)),
        try_token: format!("{}{}", Id::random(), Id::random()),
        fingerprint,
        defaults: settings.defaults,
        pods: settings.pods.clone(),
        group: None,
        is_archived: settings.archive.is_some(),
    };
    if key.is_some() {
        return submission;
    }
    let shape = match submission.needs_owner() {
        true => Shape::Owned,
        false => Shape::Single,
    };
    let token = tokens::random(shape);
    let id = tokens::id(&token, request.definition.name.as_ref().map(Name::as_str));
    Submission {
        name: name_of(request, &id),
        id,
        token,
        ..submission
    }
}

fn name_of(request: &SubmitRequest, id: &Id) -> Name {
    let name = request.definition.name.clone();
    name.unwrap_or_else(|| Name::generate("task", id))
}

/// The ID of the task that was already submitted with the same `Idempotency-Key`, if any.
fn find_repeated(cache: &Cache, request: &SubmitRequest, fingerprint: &Fingerprint) -> Result<Option<String>, Error> {
    let Some(key) = &request.idempotency_key else {
        return Ok(None);
    };
    match cache.find_submitted(&request.user, &tokens::key_token(&request.user, key)) {
        None => Ok(None),
        Some((_, known)) if !fingerprint.matches(known.as_deref()) => Err(Error::IdempotencyKeyReused),
        Some((id, _)) => Ok(Some(id)),
    }
}

async fn try_submit(client: &ApiClient, cache: &Cache, submission: &Submission) -> Result<TryOutcome, Error> {
    let limit =
        DEADLINE + DEADLINE_PER_NODE * (submission.definition.num_nodes + part_calls(std::slice::from_ref(submission)));
    let attempt = async {
        if submission.needs_owner() {
            create_owned(client, cache, submission, limit).await
        } else {
            create_single_job(client, cache, submission).await
        }
    };
    let made = timeout(limit, attempt)
        .await
        .unwrap_or(Err(Error::SubmitDeadline { limit }));
    let Err(error) = made else { return made };
    if !submission.is_keyed() {
        roll_back(client, submission, error.is_ambiguous()).await;
        return Err(error);
    }
    // Another request with the same key may have committed the task meanwhile, and then this one has succeeded as well.
    match resolve_outcome(client, submission).await {
        Some(SubmitOutcome::Committed(owner)) => join_existing(client, cache, *owner, Vec::new()).await,
        Some(SubmitOutcome::RolledBack) => Err(error),
        None => {
            roll_back(client, submission, error.is_ambiguous()).await;
            Err(error)
        }
    }
}

/// The parts of the files of tasks that are submitted together, as so many times the time for a node. A part is large.
pub(crate) fn part_calls(tasks: &[Submission]) -> u32 {
    const CALLS_PER_PART: usize = 10;
    u32::try_from(CALLS_PER_PART * delivery::part_count(tasks)).unwrap_or(u32::MAX)
}

/// Creates a task that is a single Job; the task exists as soon as the Job does.
async fn create_single_job(client: &ApiClient, cache: &Cache, submission: &Submission) -> Result<TryOutcome, Error> {
    let manifest = manifest::job(submission, 0, None);
    let mut warnings = Vec::new();
    let Some(job) = client.create("create the Job", &manifest, &mut warnings).await? else {
        return Ok(TryOutcome::TryAgain);
    };
    check_pod_security(client, &warnings).await?;
    cache.apply_created(None, Job::from_resource(job).into_iter().collect());
    Ok(TryOutcome::Submitted(Submitted {
        id: submission.id.to_string(),
        warnings,
    }))
}

/// Creates a task that consists of several objects. The task stays invisible until its owner is committed, and
/// `orphans` removes owners that are still uncommitted after their deadline. So a server that dies at any point leaves no partial
/// task behind.
async fn create_owned(
    client: &ApiClient,
    cache: &Cache,
    submission: &Submission,
    limit: Duration,
) -> Result<TryOutcome, Error> {
    let deadline = submission.created_at + limit;
    let manifest = manifest::owner(submission, deadline);
    let mut warnings = Vec::new();
    let owner = match client
        .create("create the owner ConfigMap of the task", &manifest, &mut warnings)
        .await?
    {
        Some(owner) => owner,
        // The name derives from the key, so only somebody outside this server can have taken it.
        None if submission.is_keyed() => return Err(Error::IdempotencyKeyTaken),
        None => return Ok(TryOutcome::TryAgain),
    };
    let Ok(known) = TaskOwner::from_metadata(&owner.metadata) else {
        return Err(Error::IdempotencyKeyTaken);
    };
    if !submission.fingerprint.matches(known.fingerprint.as_deref()) {
        return Ok(TryOutcome::KeyReused);
    }
    if known.terminating {
        return Err(Error::IdempotencyKeyTerminating);
    }
    if known.committed {
        return join_existing(client, cache, known, warnings).await;
    }
    // Use the ID, name, and time of the try that came first, so that both tries create identical Jobs.
    let submission = &submission.for_try_of(&known, submitted_at(&owner));
    delivery::share_token(client, submission, &known).await?;
    let reference = owner_reference(submission, &known.uid);
    // A pod whose files are missing is retried by the kubelet only after seconds, so these come first.
    delivery::create_sets(client, std::slice::from_ref(submission), &reference).await?;
    let jobs = create_owned_objects(client, submission, &known.uid, &mut warnings).await?;
    match commit(client, &known.object_ref()).await? {
        Some(owner) => {
            let unreadable = TaskOwner {
                committed: true,
                ..known
            };
            // The task exists even if somebody removed the owner's labels meanwhile.
            let owner = TaskOwner::from_metadata(&owner.metadata).unwrap_or(unreadable);
            cache.apply_created(Some(owner), jobs);
            Ok(TryOutcome::Submitted(Submitted {
                id: submission.id.to_string(),
                warnings,
            }))
        }
        // The try that created the owner undid it, or `orphans` removed it.
        None => Ok(TryOutcome::TryAgain),
    }
}

/// Returns a task that another try created, perhaps on another server. Reads its Jobs if the watches have not seen
/// them, so that the caller can immediately query the task on this server.
async fn join_existing(
    client: &ApiClient,
    cache: &Cache,
    owner: TaskOwner,
    warnings: Vec<String>,
) -> Result<TryOutcome, Error> {
    let id = owner.key.id.to_string();
    if cache.snapshot(&owner.key).is_none() {
        let selector = format!("{}={id}", labels::TASK_ID);
        let jobs = client
            .list::<kubernetes::Job>("list the Jobs of the task", &selector)
            .await?;
        let jobs = jobs.into_iter().filter_map(|job| Job::from_resource(job).ok());
        let jobs = jobs.filter(|job| owner.owns(job)).collect();
        cache.apply_created(Some(owner), jobs);
    }
    Ok(TryOutcome::Submitted(Submitted { id, warnings }))
}

pub(crate) fn submitted_at(owner: &ConfigMap) -> Option<Timestamp> {
    task::time::parse(owner.metadata.annotations.as_ref()?.get(labels::CREATED_AT)?)
}

/// Commits an owner. Returns `None` if it was deleted meanwhile.
pub(crate) async fn commit(client: &ApiClient, owner: &ObjectRef) -> Result<Option<ConfigMap>, Error> {
    let commit = json!({"metadata": {"annotations": {labels::COMMITTED: labels::TRUE}}});
    client
        .merge_patch::<ConfigMap>("commit the task", owner.any_version(), commit)
        .await
}
