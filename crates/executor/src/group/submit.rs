//! Submits a group: creates the objects of all of its tasks, or none.
//!
//! The first task leads. Its owner reserves the `Idempotency-Key`, and its commit, after all objects of all tasks have
//! been created, is the moment from which the group exists. The other owners are committed next, by this process or
//! by `roll_forward`.

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use task::{Execution, GroupDefinition, Id, Name};
use tokio::time::timeout;

use super::commit::{CreatedTask, commit_all, complete};
use super::undo::undo;
use crate::cache::{Cache, GroupMember, TaskOwner};
use crate::delivery::{self, GroupFiles};
use crate::dry_run::{self, DryRun, MAX_DRY_RUN_BYTES};
use crate::error::Error;
use crate::fingerprint::Fingerprint;
use crate::kubernetes::{ApiClient, ConfigMap};
use crate::manifest::{self, Submission, SubmissionGroup};
use crate::names;
use crate::owned_objects::{create_owned_objects, owner_reference};
use crate::placement::Inventory;
use crate::rollback::{SubmitOutcome, resolve_outcome, roll_back_once};
use crate::settings::Settings;
use crate::submit::{
    DEADLINE, DEADLINE_PER_NODE, SubmitRequest, TRIES, check_pod_fields, commit, explain_rejection, part_calls, place,
    resolve_claims, submission, submitted_at,
};
use crate::tokens;

/// How many tasks of a group are created concurrently.
const CONCURRENT_TASKS: usize = 8;

/// How many calls a task takes besides its nodes, for the time limit.
const CALLS_PER_TASK: u32 = 2;

const ACTION: &str = "create the tasks of a group";

/// The result of a submit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubmittedGroup {
    /// The ID of the group.
    pub id: String,
    /// The IDs of its tasks, in order.
    pub task_ids: Vec<String>,
    /// Warnings about the cluster nodes that the tasks may use, and those of the Kubernetes API.
    pub warnings: Vec<String>,
}

/// The submissions of all tasks of a group, without what differs between two tries.
struct Plan {
    submissions: Vec<Submission>,
    /// The names that the user chose; the others derive from IDs.
    names: Vec<Option<Name>>,
    group_name: Option<Name>,
    execution: Execution,
    token: String,
    /// Whether the request has an `Idempotency-Key`, and so may be repeated.
    is_keyed: bool,
    fingerprint: Fingerprint,
    warnings: Vec<String>,
}

/// The outcome of one try.
enum TryOutcome {
    Submitted(GroupMember, Vec<String>),
    /// The try that this one joined was undone, or an ID is in use.
    TryAgain,
}

/// Submits a group.
///
/// # Errors
/// [`Error::InGroup`] if a task is rejected, [`Error::IdempotencyKeyReused`], or a failure of Kubernetes.
pub(crate) async fn submit(
    client: &ApiClient,
    cache: &Cache,
    inventory: &Inventory,
    request: SubmitRequest<GroupDefinition>,
    settings: &Settings,
) -> Result<SubmittedGroup, Error> {
    let token = match &request.idempotency_key {
        Some(key) => tokens::key_token(&request.user, key),
        None => tokens::key_token(
            &request.user,
            &format!("{}{}{}", Id::random(), Id::random(), Id::random()),
        ),
    };
    let fingerprint = Fingerprint::of_group(&request.definition)?;
    if request.idempotency_key.is_some()
        && let Some(group) = find_repeated(client, &token, &fingerprint).await?
    {
        // The tasks may have been submitted long ago, when their volumes still existed.
        complete(client, cache, &group).await?;
        return Ok(submitted(&group, Vec::new()));
    }
    let plan = plan(client, cache, inventory, &request, settings, (token, fingerprint)).await?;
    for _ in 0..TRIES {
        let submissions = plan.for_group(&Id::random(), client.now());
        if submissions
            .iter()
            .any(|submission| cache.contains_id(submission.id.as_str()))
        {
            continue;
        }
        match try_submit(client, cache, &plan, submissions).await? {
            TryOutcome::Submitted(group, mut warnings) => {
                warnings.splice(0..0, plan.warnings);
                warnings.dedup();
                return Ok(submitted(&group, warnings));
            }
            TryOutcome::TryAgain => {}
        }
    }
    Err(Error::NoFreeId { tries: TRIES })
}

/// The objects that a submit would create. Validates the first Job of each task.
///
/// # Errors
/// [`Error::InGroup`] if a task is rejected, or a failure of Kubernetes.
pub(crate) async fn dry_run(
    client: &ApiClient,
    cache: &Cache,
    inventory: &Inventory,
    request: SubmitRequest<GroupDefinition>,
    settings: &Settings,
) -> Result<DryRun, Error> {
    let token = tokens::key_token(&request.user, Id::random().as_str());
    let fingerprint = Fingerprint::of_group(&request.definition)?;
    let plan = plan(client, cache, inventory, &request, settings, (token, fingerprint)).await?;
    let submissions = plan.for_group(&Id::random(), client.now());
    let max_bytes = MAX_DRY_RUN_BYTES / submissions.len();
    let check = |(index, task): (usize, Submission)| async move {
        let checked = dry_run::check(client, &task, max_bytes).await;
        checked.map_err(|error| in_group(index, error))
    };
    let checks: Vec<_> = submissions.into_iter().enumerate().map(check).collect();
    let checks: Vec<DryRun> = stream::iter(checks).buffered(CONCURRENT_TASKS).try_collect().await?;
    let left_out = checks.iter().map(|check| check.left_out).sum();
    Ok(DryRun {
        objects: checks.into_iter().flat_map(|check| check.objects).collect(),
        left_out,
        warnings: plan.warnings,
    })
}

fn submitted(group: &GroupMember, warnings: Vec<String>) -> SubmittedGroup {
    SubmittedGroup {
        id: group.group_id.to_string(),
        task_ids: (0..group.size).map(|index| group.id_of(index).to_string()).collect(),
        warnings,
    }
}

/// The error of a task at its place in the group. A key belongs to the group, and not to one of its tasks.
fn in_group(index: usize, error: Error) -> Error {
    if matches!(error, Error::IdempotencyKeyTaken) {
        return error;
    }
    Error::InGroup {
        index,
        source: Box::new(error),
    }
}

/// The committed group that was already submitted with the same key, if any.
async fn find_repeated(
    client: &ApiClient,
    token: &str,
    fingerprint: &Fingerprint,
) -> Result<Option<GroupMember>, Error> {
    let owner = client.get::<ConfigMap>(ACTION, &names::key_object_name(token)).await?;
    let owner = owner.and_then(|owner| TaskOwner::from_metadata(&owner.metadata).ok());
    let Some(owner) = owner.filter(|owner| owner.committed && !owner.terminating) else {
        return Ok(None);
    };
    match owner.group {
        Some(group) if fingerprint.matches(owner.fingerprint.as_deref()) => Ok(Some(*group)),
        _ => Err(Error::IdempotencyKeyReused),
    }
}

/// Checks all tasks, and prepares their submissions.
async fn plan(
    client: &ApiClient,
    cache: &Cache,
    inventory: &Inventory,
    request: &SubmitRequest<GroupDefinition>,
    settings: &Settings,
    (token, fingerprint): (String, Fingerprint),
) -> Result<Plan, Error> {
    let mut submissions: Vec<Submission> = Vec::new();
    let mut warnings: Vec<String> = Vec::new();
    let mut last = None;
    let mut group_files = GroupFiles::default();
    for (index, definition) in request.definition.tasks.iter().enumerate() {
        check_pod_fields(definition, settings).map_err(|error| in_group(index, error))?;
        // The tasks of a sweep have the same volumes.
        let known = last.as_ref().filter(|(volumes, _)| *volumes == definition.volumes);
        let claims = match known {
            Some((_, claims)) => Vec::clone(claims),
            None => {
                let claims = resolve_claims(client, cache, &request.user, definition, settings).await;
                claims.map_err(|error| in_group(index, error))?
            }
        };
        let placement = place(client, inventory, definition, &claims, settings).await;
        let placement = placement.map_err(|error| in_group(index, error))?;
        warnings.extend(placement.warnings.clone());
        let task = SubmitRequest {
            user: request.user.clone(),
            definition: definition.clone(),
            idempotency_key: None,
        };
        last = Some((definition.volumes.clone(), claims.clone()));
        let files = delivery::resolve(settings, &request.user, definition).await;
        let files = files.and_then(|files| group_files.add(&files).map(|()| files));
        let files = files.map_err(|error| in_group(index, error))?;
        let placed = (claims, placement, files);
        submissions.push(submission(&task, settings, placed, fingerprint.clone(), client.now()));
    }
    let mut seen = std::collections::HashSet::new();
    warnings.retain(|warning| seen.insert(warning.clone()));
    Ok(Plan {
        submissions,
        names: request.definition.tasks.iter().map(|task| task.name.clone()).collect(),
        group_name: request.definition.name.clone(),
        execution: request.definition.execution,
        token,
        is_keyed: request.idempotency_key.is_some(),
        fingerprint,
        warnings,
    })
}

impl Plan {
    /// The submissions of a try with this ID of the group. All tries that share it create identical Jobs.
    fn for_group(&self, group_id: &Id, created_at: Timestamp) -> Vec<Submission> {
        let group = GroupMember {
            group_id: group_id.clone(),
            name: self
                .group_name
                .clone()
                .unwrap_or_else(|| Name::generate("group", group_id)),
            index: 0,
            size: u32::try_from(self.submissions.len()).unwrap_or(u32::MAX),
            execution: self.execution,
            token: self.token.as_str().into(),
        };
        let tasks = (0..).zip(&self.submissions).zip(&self.names);
        let mut tasks: Vec<Submission> = tasks
            .map(|((index, submission), name)| {
                let id = group.id_of(index);
                Submission {
                    name: name.clone().unwrap_or_else(|| Name::generate("task", &id)),
                    id,
                    // In a list by time, the tasks have the order of the group.
                    created_at: created_at + Duration::from_micros(index.into()),
                    token: group.token_of(index),
                    group: Some(SubmissionGroup {
                        member: group.at(index),
                        task_ids: Arc::from(""),
                    }),
                    ..submission.clone()
                }
            })
            .collect();
        if self.execution == Execution::Serial {
            let ids: Vec<String> = tasks.iter().map(Submission::skypilot_task_id).collect();
            let ids: Arc<str> = ids.join("\n").into();
            for group in tasks.iter_mut().filter_map(|task| task.group.as_mut()) {
                group.task_ids = Arc::clone(&ids);
            }
        }
        tasks
    }
}

async fn try_submit(
    client: &ApiClient,
    cache: &Cache,
    plan: &Plan,
    submissions: Vec<Submission>,
) -> Result<TryOutcome, Error> {
    let calls = submissions
        .iter()
        .map(|task| task.definition.num_nodes + CALLS_PER_TASK)
        .sum::<u32>();
    let limit = DEADLINE + DEADLINE_PER_NODE * (calls + part_calls(&submissions));
    let leader = submissions[0].clone();
    let mut tried = submissions;
    let created = timeout(limit, create(client, cache, plan, &mut tried, limit))
        .await
        .unwrap_or(Err(Error::SubmitDeadline { limit }));
    let Err(error) = created else { return created };
    if !plan.is_keyed {
        // Nobody can ask for this group again, so it must not run.
        if let Some(group) = &leader.group {
            undo(client, &group.member).await;
        }
        return Err(error);
    }
    // Another request with the same key may have committed the group meanwhile, and then this one has succeeded as well.
    match resolve_outcome(client, &leader).await {
        Some(SubmitOutcome::Committed(owner)) => match owner.group {
            Some(group) => {
                complete(client, cache, &group).await?;
                Ok(TryOutcome::Submitted(*group, Vec::new()))
            }
            None => Err(Error::IdempotencyKeyReused),
        },
        Some(SubmitOutcome::RolledBack) => {
            remove_followers(client, &tried).await;
            Err(error)
        }
        // `orphans` and `roll_forward` remove the group after its deadline.
        None => Err(error),
    }
}

/// Removes what this try has created of the other tasks, unless the leader belongs to another try, which needs them.
/// `roll_forward` removes what remains.
async fn remove_followers(client: &ApiClient, tried: &[Submission]) {
    let leader = client.get::<ConfigMap>(ACTION, &tried[0].owner_name()).await;
    if !matches!(leader, Ok(None)) {
        return;
    }
    stream::iter(&tried[1..])
        .for_each_concurrent(CONCURRENT_TASKS, async |task| {
            let _ = roll_back_once(client, task).await;
        })
        .await;
}

/// Creates all objects, commits the leader, then the others. `submissions` become those of the try that came first.
async fn create(
    client: &ApiClient,
    cache: &Cache,
    plan: &Plan,
    submissions: &mut Vec<Submission>,
    limit: Duration,
) -> Result<TryOutcome, Error> {
    let leader = &submissions[0];
    let deadline = leader.created_at + limit;
    let mut warnings = Vec::new();
    let manifest = manifest::owner(leader, deadline);
    let owner = client.create(ACTION, &manifest, &mut warnings).await?;
    // The name derives from the key, so only somebody outside this server can have taken it.
    let owner = owner.ok_or(Error::IdempotencyKeyTaken)?;
    let known = TaskOwner::from_metadata(&owner.metadata).map_err(|_| Error::IdempotencyKeyTaken)?;
    let group = match &known.group {
        Some(group) if plan.fingerprint.matches(known.fingerprint.as_deref()) => GroupMember::clone(group),
        _ => return Err(Error::IdempotencyKeyReused),
    };
    if known.terminating {
        return Err(Error::IdempotencyKeyTerminating);
    }
    if known.committed {
        complete(client, cache, &group).await?;
        return Ok(TryOutcome::Submitted(group, warnings));
    }
    let is_ours = leader
        .group
        .as_ref()
        .is_some_and(|ours| ours.member.is_same_group(&group));
    if !is_ours {
        let Some(created_at) = submitted_at(&owner) else {
            return Err(Error::IdempotencyKeyTaken);
        };
        *submissions = plan.for_group(&group.group_id, created_at);
    }
    let files_owner: Arc<str> = known.uid.as_str().into();
    for task in submissions.iter_mut() {
        task.files_owner = Arc::clone(&files_owner);
    }
    let leader = owner_reference(&submissions[0], &known.uid);
    let sets = delivery::create_sets(client, submissions, &leader).await?;
    let create_one = |(index, task): (usize, &Submission)| {
        let (task, known) = (task.clone(), (index == 0).then(|| known.clone()));
        let group = &group;
        async move {
            let created = create_task(client, &task, group, known, deadline).await;
            created.map_err(|error| in_group(index, explain_rejection(error, &task.definition)))
        }
    };
    let creates: Vec<_> = submissions.iter().enumerate().map(create_one).collect();
    let tasks: Vec<CreatedTask> = stream::iter(creates).buffered(CONCURRENT_TASKS).try_collect().await?;
    let owners = submissions.iter().zip(&tasks);
    let owners: Vec<_> = owners
        .map(|(task, created)| (task, owner_reference(task, &created.owner.uid)))
        .collect();
    delivery::share_sets(client, &sets, &owners).await?;
    warnings.extend(tasks.iter().flat_map(|task| task.warnings.iter().cloned()));
    warnings.sort_unstable();
    warnings.dedup();
    // If the leader is gone, the try that created it undid it, or `orphans` removed it.
    if commit(client, &known.object_ref()).await?.is_none() {
        return Ok(TryOutcome::TryAgain);
    }
    commit_all(client, cache, &group, tasks).await?;
    Ok(TryOutcome::Submitted(group, warnings))
}

/// Creates one task, with everything but its commit. The leader's owner exists already.
async fn create_task(
    client: &ApiClient,
    task: &Submission,
    group: &GroupMember,
    leader: Option<TaskOwner>,
    deadline: Timestamp,
) -> Result<CreatedTask, Error> {
    let mut warnings = Vec::new();
    let owner = match leader {
        Some(leader) => leader,
        None => {
            let manifest = manifest::owner(task, deadline);
            let owner = client.create(ACTION, &manifest, &mut warnings).await?;
            let owner = owner.and_then(|owner| TaskOwner::from_metadata(&owner.metadata).ok());
            let is_of_group = |owner: &TaskOwner| owner.group.as_ref().is_some_and(|of| of.is_same_group(group));
            let owner = owner.filter(|owner| is_of_group(owner) && !owner.terminating);
            owner.ok_or(Error::IdempotencyKeyTaken)?
        }
    };
    delivery::share_token(client, task, &owner).await?;
    let jobs = create_owned_objects(client, task, &owner.uid, &mut warnings).await?;
    Ok(CreatedTask { owner, jobs, warnings })
}
