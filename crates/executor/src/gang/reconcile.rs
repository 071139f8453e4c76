//! Carries out the steps from `decide` whenever a task changes.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::decide::{Action, LeftoverContainers, decide};
use super::patch::{CONCURRENT_PATCHES, ObjectPatch, patch_jobs, patch_pods};
use super::record_ends::record_ends;
use super::refetch::refetch;
use super::step_timers::StepTimers;
use super::take_turn::take_turn;
use super::task::ManagedTask;
use crate::backoff::Backoff;
use crate::cache::{Cache, EndCause, HeldJob, Job, Stage, TaskKey, TaskOwner, Turn};
use crate::controller::ControllerContext;
use crate::error::Error;
use crate::kubernetes::{self, ApiClient, ConfigMap, ObjectRef};
use crate::{labels, manifest};

/// How many tasks are worked on concurrently.
const CONCURRENT_TASKS: usize = 16;

/// How long to collect changes before acting on them: the nodes of a task change in quick succession.
const GATHER: Duration = Duration::from_millis(5);

/// The pauses before a failed step is retried, or the cache's health is checked again.
const RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// How soon to look at a task again after another server changed its owner first.
const RETRY_AFTER_CONFLICT: Duration = Duration::from_millis(200);

/// Works on all gangs and retriable tasks until shutdown.
pub(crate) async fn run(context: ControllerContext) {
    let stop = context.stop.clone();
    stop.run_until_cancelled(run_forever(context)).await;
}

/// Works on each task separately, so that a slow one does not delay the others.
async fn run_forever(context: ControllerContext) {
    let ControllerContext { cache, health, .. } = &context;
    let timers = StepTimers::new(context.sync_delay);
    let mut busy: HashSet<Arc<TaskKey>> = HashSet::new();
    let mut failing: HashMap<Arc<TaskKey>, Backoff> = HashMap::new();
    let mut work = FuturesUnordered::new();
    loop {
        let changed = async {
            cache.queue_changed().await;
            sleep(GATHER).await;
        };
        // Fall through whichever fires first: the code below handles everything that has changed. The order is fixed, so
        // that simulations are reproducible: a change that is noticed only after a result waits for its own `GATHER`.
        tokio::select! {
            biased;
            Some((key, outcome)) = work.next() => {
                busy.remove(&key);
                finish(&context, &mut failing, key, outcome);
            }
            () = changed => {}
            () = sleep(RETRY), if health.check().is_err() => {}
        }
        // An outdated cache must not be acted on. The changes stay queued.
        if health.check().is_err() {
            continue;
        }
        let limit = CONCURRENT_TASKS.saturating_sub(busy.len());
        for (key, task) in cache.take_changed(&busy, limit, ManagedTask::from_cache) {
            busy.insert(Arc::clone(&key));
            work.push(async {
                let outcome = reconcile(&context.client, cache, &timers, &key, task).await;
                (key, outcome)
            });
        }
    }
}

/// Records the outcome of `reconcile` for a task, and schedules the next look at it if there is more to do.
fn finish(
    context: &ControllerContext,
    failing: &mut HashMap<Arc<TaskKey>, Backoff>,
    key: Arc<TaskKey>,
    outcome: Result<Option<Duration>, Error>,
) {
    let error = match outcome {
        Err(error) => error,
        Ok(requeue_after) => {
            if failing.remove(&key).is_some() {
                context.cache.set_controller_error(&key, None);
            }
            if let Some(pause) = requeue_after {
                requeue(&context.cache, key, pause);
            }
            return;
        }
    };
    let task_id = &*key.id;
    context.warn(&format!("control {task_id} {error}"), || {
        tracing::warn!(task_id, %error, "failed to change the nodes of a task; retrying");
    });
    context.cache.set_controller_error(&key, Some(error.to_string()));
    failing.retain(|key, _| context.cache.contains(key));
    let backoff = failing
        .entry(Arc::clone(&key))
        .or_insert_with(|| Backoff::new(RETRY, LONGEST_RETRY));
    requeue(&context.cache, key, backoff.next());
}

/// Decides on steps and takes those that are possible now; returns after which time to look again, if there is more to
/// do. Irreversible steps are decided again on a fresh read, since the cache may lag.
async fn reconcile(
    client: &ApiClient,
    cache: &Cache,
    timers: &StepTimers,
    key: &Arc<TaskKey>,
    mut task: ManagedTask,
) -> Result<Option<Duration>, Error> {
    // First, because a retry may wait for minutes, and depends on how the attempt has ended.
    record_ends(client, cache, &task).await?;
    if let (Some(_), Some((job, _))) = (task.restart, task.nodes.first())
        && let Some(left) = timers.before_attempt(key, job.attempt + 1, Instant::now())
    {
        return Ok(Some(left));
    }
    let mut actions = decide(&task, client.now());
    let mut is_refetched = false;
    if actions.iter().any(Action::is_final) {
        let Some(now) = refetch(client, key, &task).await? else {
            return Ok(None);
        };
        actions = decide(&now, client.now());
        (task, is_refetched) = (now, true);
    }
    let held_back = timers.hold_back_gate(key, &mut actions, Instant::now());
    let (mut failed, mut has_won) = (None, true);
    for action in actions {
        tracing::debug!(task_id = %key.id, ?action, "taking a step for a task");
        let turn = required_turn(&task, &action);
        if let Some(turn) = turn {
            check_not_planted(client, &task, turn).await?;
        }
        match turn {
            Some(turn) if !take_turn(client, cache, &task, turn).await? => has_won = false,
            _ => {
                if let Err(error) = apply(client, cache, action).await {
                    failed.get_or_insert(error);
                }
            }
        }
    }
    if !has_won && !is_refetched {
        // The owner watch may lag; a fresh read shows what the other server wrote.
        if let Some(owner) = refetch(client, key, &task).await?.and_then(|task| task.owner) {
            cache.apply_created(Some(owner), Vec::new());
        }
    }
    match failed {
        Some(error) => Err(error),
        None => Ok(held_back.or_else(|| (!has_won).then_some(RETRY_AFTER_CONFLICT))),
    }
}

/// Fails if somebody has created a Job of an attempt before the owner has begun it: once it has, the Job would belong to the
/// task.
async fn check_not_planted(client: &ApiClient, task: &ManagedTask, turn: Turn) -> Result<(), Error> {
    let Some((_, name)) = task.unbegun.iter().find(|(attempt, _)| *attempt == turn.attempt) else {
        return Ok(());
    };
    let Some(known) = &task.owner else { return Ok(()) };
    // The owner was read before the Jobs, so that another server may have begun the attempt in between.
    let owner = client.get::<ConfigMap>("retry the task", &known.name).await?;
    let owner = owner.and_then(|owner| TaskOwner::from_metadata(&owner.metadata).ok());
    match owner.filter(|owner| owner.version == known.version) {
        Some(_) => Err(Error::NameTaken { name: name.clone() }),
        None => Ok(()),
    }
}

/// The turn that the owner must record before this step may be taken.
fn required_turn(task: &ManagedTask, action: &Action) -> Option<Turn> {
    match action {
        Action::OpenStartGate { .. } | Action::OpenRunGate { .. } => Some(task.turn().at(Stage::Started)),
        Action::CreateAttempt { attempt, .. } if task.turn().attempt < *attempt => Some(Turn {
            attempt: *attempt,
            stage: Stage::Waiting,
        }),
        Action::StartJobs { .. }
        | Action::CreateAttempt { .. }
        | Action::EndNodes { .. }
        | Action::EndLeftoverContainers { .. }
        | Action::DeleteJobs { .. } => None,
    }
}

fn requeue(cache: &Arc<Cache>, key: Arc<TaskKey>, after: Duration) {
    let cache = Arc::clone(cache);
    tokio::spawn(async move {
        sleep(after).await;
        cache.requeue(key);
    });
}

/// Takes one step. If a part of it fails, the rest is still done, and the error is returned.
pub(super) async fn apply(client: &ApiClient, cache: &Cache, action: Action) -> Result<(), Error> {
    match action {
        Action::CreateAttempt {
            from,
            attempt,
            restarts,
        } => create_attempt(client, cache, from, attempt, restarts).await,
        Action::DeleteJobs { jobs } => {
            let delete = |job: ObjectRef| async move {
                client
                    .delete::<kubernetes::Job>("delete the Jobs of an old attempt", job.any_version())
                    .await
            };
            let deletes = stream::iter(jobs).map(delete).buffer_unordered(CONCURRENT_PATCHES);
            deletes.try_for_each(|_| async { Ok(()) }).await
        }
        Action::EndLeftoverContainers { nodes } => end_leftover_containers(client, cache, nodes).await,
        Action::OpenStartGate { pods, node_ips } => {
            let change = |deadline: Option<i64>| {
                let annotations = json!({"annotations": {labels::NODE_IPS: node_ips}});
                match deadline {
                    Some(seconds) => json!({"metadata": annotations, "spec": {"activeDeadlineSeconds": seconds}}),
                    None => json!({"metadata": annotations}),
                }
            };
            let changes = pods
                .into_iter()
                .map(|(pod, deadline)| ObjectPatch::of(pod, change(deadline)));
            patch_pods(client, cache, "start the nodes", changes.collect()).await
        }
        Action::OpenRunGate { pods } => {
            let change = json!({"metadata": {"annotations": {labels::RUN: labels::TRUE}}});
            patch_pods(client, cache, "start `run` on the nodes", patches_for(pods, &change)).await
        }
        Action::StartJobs { jobs } => {
            let start = |(job, held): (ObjectRef, HeldJob)| ObjectPatch::of(job, held.start(client.now()));
            patch_jobs(client, cache, "start the task", jobs.into_iter().map(start).collect()).await
        }
        Action::EndNodes {
            pods,
            jobs,
            held,
            because_of,
        } => {
            let change = json!({
                "metadata": {"annotations": {labels::ENDED_BECAUSE_OF: because_of.to_string()}},
                "spec": {"activeDeadlineSeconds": 1},
            });
            let mut job_change = change.clone();
            if because_of == EndCause::Cancelled {
                // A queue may still admit a suspended Job, which then must not create pods.
                job_change["spec"]["parallelism"] = json!(0);
            }
            let mut held_change = job_change.clone();
            held_change["metadata"]["annotations"][labels::HELD] = json!(null);
            held_change["spec"]["suspend"] = json!(false);
            held_change["spec"]["parallelism"] = json!(0);
            let mut job_patches = patches_for(jobs, &job_change);
            job_patches.extend(patches_for(held, &held_change));
            // The kubelet sends SIGTERM to a pod that exceeds its deadline, and keeps its log. Deleting the pod would
            // lose it.
            let (pods, jobs) = tokio::join!(
                patch_pods(client, cache, "terminate a node", patches_for(pods, &change)),
                patch_jobs(client, cache, "terminate a node", job_patches),
            );
            pods.and(jobs)
        }
    }
}

fn patches_for(targets: Vec<ObjectRef>, change: &Value) -> Vec<ObjectPatch> {
    targets
        .into_iter()
        .map(|target| ObjectPatch::of(target, change.clone()))
        .collect()
}

/// Records the exit code on the Job and the pod before the pod is ended: afterward both only report
/// `DeadlineExceeded`.
async fn end_leftover_containers(
    client: &ApiClient,
    cache: &Cache,
    nodes: Vec<LeftoverContainers>,
) -> Result<(), Error> {
    const ACTION: &str = "terminate the other containers of a node";
    let ended = |code: i32| json!({"annotations": {labels::EXIT_CODE: code.to_string()}});
    let jobs = nodes
        .iter()
        .map(|node| ObjectPatch::of(node.job.clone(), json!({"metadata": ended(node.exit_code)})));
    patch_jobs(client, cache, ACTION, jobs.collect()).await?;
    let end = |node: LeftoverContainers| {
        ObjectPatch::of(
            node.pod,
            json!({"metadata": ended(node.exit_code), "spec": {"activeDeadlineSeconds": 1}}),
        )
    };
    patch_pods(client, cache, ACTION, nodes.into_iter().map(end).collect()).await
}

/// Creates the Jobs of the next attempt. The attempt number is part of their names, so two servers cannot create
/// duplicates.
async fn create_attempt(
    client: &ApiClient,
    cache: &Cache,
    from: Vec<ObjectRef>,
    attempt: u32,
    restarts: u32,
) -> Result<(), Error> {
    const ACTION: &str = "retry the task";
    let results: Vec<Result<(), Error>> = stream::iter(from)
        .map(|previous| async move {
            let Some(job) = client.get::<kubernetes::Job>(ACTION, &previous.name).await? else {
                return Ok(());
            };
            if job.metadata.uid.as_ref() != Some(&previous.uid) {
                return Ok(());
            }
            let ended_at = Job::from_resource(job.clone()).ok().and_then(|job| job.ended_at);
            let Some(next) = manifest::next_attempt(job, attempt, restarts) else {
                return Ok(());
            };
            let made = client.create(ACTION, &next, &mut Vec::new()).await?;
            let made = made.and_then(|job| Job::from_resource(job).ok());
            // A Job that is older than the end of the previous attempt was created by somebody who guessed its name.
            match made.filter(|made| ended_at.is_none_or(|ended_at| made.creation_timestamp >= ended_at)) {
                Some(made) => cache.apply_created(None, vec![made]),
                None => {
                    let name = next.metadata.name.unwrap_or_default();
                    return Err(Error::NameTaken { name });
                }
            }
            Ok(())
        })
        .buffer_unordered(CONCURRENT_PATCHES)
        .collect()
        .await;
    results.into_iter().collect()
}
