//! Lets tasks give way and retry, by suspending and resuming their Jobs.
//!
//! A task that gives way first records this in its owner (`Stage::Preempted`); then any server suspends the Jobs that are
//! not yet suspended. To retry, all Jobs are resumed first, and the owner is reset last. A delayed suspend therefore
//! carries an outdated `resourceVersion`, and is rejected.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::decide::{PreemptedGang, WaitingGang, gang_to_preempt, gangs_to_resume};
use crate::cache::{Cache, Job, Pod, Stage, TaskKey};
use crate::controller::ControllerContext;
use crate::error::Error;
use crate::gang::patch::{ObjectPatch, patch_jobs};
use crate::gang::refetch::refetch;
use crate::gang::take_turn::take_turn;
use crate::gang::task::ManagedTask;
use crate::labels;

/// How often waiting tasks are checked. A check only reads the cache.
const INTERVAL: Duration = Duration::from_secs(2);

/// Gangs whose start gate is closed, in a fixed order, so that simulations are reproducible.
type Tasks = BTreeMap<Arc<TaskKey>, ManagedTask>;

/// A change to all Jobs of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Suspend the Jobs: the task gives way now.
    Preempt,
    /// Suspend the rest of the Jobs: a server stopped halfway.
    FinishPreempting,
    /// Resume the Jobs.
    Resume,
}

/// Resolves deadlocks between waiting gangs until shutdown.
pub(crate) async fn run(context: ControllerContext) {
    let mut ticker = context.ticker(INTERVAL);
    let mut waited = HashMap::new();
    while ticker.tick().await.is_some() {
        let tasks: Tasks = waiting_gangs(&context.cache).into_iter().collect();
        for (key, step) in next_steps(&tasks, &mut waited, context.client.now()) {
            if context.stop.is_cancelled() {
                break;
            }
            match take_step(&context, &key, &tasks[&key], step).await {
                Ok(()) => {}
                // Another client changed an object concurrently; the next tick looks again.
                Err(error) if error.is_conflict() => {}
                Err(error) => context.warn(&format!("room {} {error}", key.id), || {
                    tracing::warn!(task_id = %key.id, %error, "failed to suspend or resume a task; retrying");
                }),
            }
        }
    }
}

/// The gangs that wait at the start gate.
fn waiting_gangs(cache: &Cache) -> Vec<(Arc<TaskKey>, ManagedTask)> {
    let mut tasks = ManagedTask::select(cache, |task| {
        let is_gang = task.jobs.iter().any(|job| job.gang.is_some());
        is_gang && task.is_pending()
    });
    let has_started = |pod: &Option<Pod>| pod.as_ref().is_some_and(|pod| pod.may_start());
    let is_ending = |job: &Job| job.provision_timed_out.is_some() || job.ended_because_of.is_some();
    tasks.retain(|(_, gang)| !gang.nodes.iter().any(|(job, pod)| has_started(pod) || is_ending(job)));
    tasks
}

/// Which tasks to suspend or resume now.
fn next_steps(
    tasks: &Tasks,
    waited: &mut HashMap<Arc<TaskKey>, Instant>,
    now: jiff::Timestamp,
) -> Vec<(Arc<TaskKey>, Step)> {
    let (waiting, suspended) = sort(tasks, waited);
    let mut next_steps = Vec::new();
    if let Some(task) = gang_to_preempt(&waiting) {
        next_steps.push((Arc::clone(&task.key), Step::Preempt));
    }
    let again = gangs_to_resume(&suspended, &waiting, now);
    // A task that is due for a retry may be partly resumed, which must not be undone.
    let is_half = |task: &&PreemptedGang| tasks[&task.key].nodes.iter().any(|(job, _)| !job.suspended);
    for task in suspended.iter().filter(is_half).filter(|task| !again.contains(task)) {
        next_steps.push((Arc::clone(&task.key), Step::FinishPreempting));
    }
    next_steps.extend(again.into_iter().map(|task| (Arc::clone(&task.key), Step::Resume)));
    next_steps
}

/// Takes a step, if a fresh read confirms that it still applies.
async fn take_step(
    context: &ControllerContext,
    key: &Arc<TaskKey>,
    task: &ManagedTask,
    step: Step,
) -> Result<(), Error> {
    const ACTION: &str = "suspend or resume the task";
    let ControllerContext { client, cache, .. } = context;
    let Some(task) = refetch(client, key, task).await? else {
        return Ok(());
    };
    let turn = task.turn();
    let task_id = &*key.id;
    match (step, turn.stage) {
        (Step::Preempt, Stage::Waiting) if is_unschedulable(&task) && !task.has_started() => {
            let times = task.nodes.iter().map(|(job, _)| job.preemptions).max().unwrap_or(0) + 1;
            let at = client.now();
            if !take_turn(client, cache, &task, turn.at(Stage::Preempted { times, at })).await? {
                return Ok(());
            }
            tracing::info!(event = "gave_way", task_id, times, "a task gave way to an earlier one");
            patch_jobs(client, cache, ACTION, suspend_patches(&task, at, times)).await
        }
        // Updating the owner here makes a concurrent `Resume` fail on its outdated `resourceVersion`.
        (Step::FinishPreempting, Stage::Preempted { times, .. }) if !task.has_started() => {
            let at = client.now();
            if !take_turn(client, cache, &task, turn.at(Stage::Preempted { times, at })).await? {
                return Ok(());
            }
            patch_jobs(client, cache, ACTION, suspend_patches(&task, at, times)).await
        }
        (Step::Resume, Stage::Preempted { .. }) => {
            tracing::info!(event = "tries_again", task_id, "retrying a task that gave way");
            let resumes = task.nodes.iter().map(|(job, _)| patch(job, resume_patch()));
            patch_jobs(client, cache, ACTION, resumes.collect()).await?;
            take_turn(client, cache, &task, turn.at(Stage::Waiting)).await.map(drop)
        }
        _ => Ok(()),
    }
}

/// Splits the tasks into those that wait for resources and those that gave way. `waited` tracks how long each has
/// waited.
fn sort(tasks: &Tasks, waited: &mut HashMap<Arc<TaskKey>, Instant>) -> (Vec<WaitingGang>, Vec<PreemptedGang>) {
    let (mut waiting, mut suspended) = (Vec::new(), Vec::new());
    for (key, task) in tasks {
        let created_at = task.submitted_at();
        if let Stage::Preempted { times, at } = task.turn().stage {
            suspended.push(PreemptedGang {
                key: Arc::clone(key),
                created_at,
                at,
                times,
            });
        } else if task.turn().stage == Stage::Waiting && is_unschedulable(task) {
            waiting.push(WaitingGang {
                key: Arc::clone(key),
                created_at,
                held_nodes: held_nodes(task),
                waited: waited.entry(Arc::clone(key)).or_insert_with(Instant::now).elapsed(),
            });
        }
    }
    waited.retain(|key, _| waiting.iter().any(|task| task.key == *key));
    (waiting, suspended)
}

/// Whether the scheduler cannot place a node, or Kubernetes refuses to create a pod, e.g., because of a quota.
fn is_unschedulable(task: &ManagedTask) -> bool {
    let mut pods = task.nodes.iter().filter_map(|(_, pod)| pod.as_ref());
    pods.any(Pod::is_unschedulable) || task.is_pod_rejected
}

/// How many nodes hold something that others wait for: a cluster node, or a share of the quota.
fn held_nodes(task: &ManagedTask) -> usize {
    let holds = |pod: &Pod| pod.node_name.is_some() || task.is_pod_rejected;
    task.nodes
        .iter()
        .filter(|(_, pod)| pod.as_ref().is_some_and(holds))
        .count()
}

fn patch(job: &Job, merge: Value) -> ObjectPatch {
    ObjectPatch {
        object: job.object_ref(),
        version: Some(job.version.clone()),
        merge,
    }
}

/// Patches that suspend the Jobs. The Job controller deletes the pods of a suspended Job without counting them as
/// failed.
fn suspend_patches(task: &ManagedTask, at: jiff::Timestamp, times: u32) -> Vec<ObjectPatch> {
    let suspend = json!({
        "metadata": {"annotations": {
            labels::GAVE_WAY_AT: task::time::format(at),
            labels::GAVE_WAY: times.to_string(),
        }},
        "spec": {"suspend": true},
    });
    let jobs = task.nodes.iter().map(|(job, _)| job).filter(|job| !job.suspended);
    jobs.map(|job| patch(job, suspend.clone())).collect()
}

/// A patch that resumes a Job. Removing the annotation marks every later suspension as somebody else's.
fn resume_patch() -> Value {
    json!({"metadata": {"annotations": {labels::GAVE_WAY_AT: null}}, "spec": {"suspend": false}})
}
