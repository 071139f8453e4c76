//! Lets tasks give way and retry, by suspending and resuming their Jobs.
//!
//! A task that gives way first records this in its owner (`Stage::GaveWay`); then any server suspends the Jobs that are
//! not yet suspended. To retry, all Jobs are resumed first, and the owner is reset last. A delayed suspend therefore
//! carries an outdated `resourceVersion`, and is rejected.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::change::{Change, change_jobs};
use super::decide::target;
use super::fresh::fresh;
use super::room::{Suspended, Waiting, gives_way, try_again};
use super::take_turn::take_turn;
use crate::cache::{GangTask, Job, Pod, Stage, TaskKey};
use crate::error::Error;
use crate::labels;
use crate::ticks::Background;

/// How often waiting tasks are checked. A check only reads the cache.
const INTERVAL: Duration = Duration::from_secs(2);

/// Gangs whose start gate is closed.
type Tasks = HashMap<Arc<TaskKey>, GangTask>;

/// A change to all Jobs of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Move {
    /// Suspend the Jobs: the task gives way now.
    GiveWay,
    /// Suspend the rest of the Jobs: a server stopped halfway.
    Complete,
    /// Resume the Jobs.
    TryAgain,
}

/// Resolves deadlocks between waiting gangs until shutdown.
pub(crate) async fn make_room(background: Background) {
    let mut ticks = background.every(INTERVAL);
    let mut since = HashMap::new();
    while ticks.next().await.is_some() {
        let tasks: Tasks = background.cache.waiting_gangs().into_iter().collect();
        for (key, what) in moves(&tasks, &mut since, background.calls.now()) {
            if background.stop.is_cancelled() {
                break;
            }
            match make(&background, &key, &tasks[&key], what).await {
                Ok(()) => {}
                // Another client changed an object concurrently; the next tick looks again.
                Err(error) if error.is_conflict() => {}
                Err(error) => background.warn(&format!("room {} {error}", key.id), || {
                    tracing::warn!(task_id = %key.id, %error, "failed to suspend or resume a task; retrying");
                }),
            }
        }
    }
}

/// Which tasks to suspend or resume now.
fn moves(tasks: &Tasks, since: &mut HashMap<Arc<TaskKey>, Instant>, now: jiff::Timestamp) -> Vec<(Arc<TaskKey>, Move)> {
    let (waiting, suspended) = sort(tasks, since);
    let mut moves = Vec::new();
    if let Some(task) = gives_way(&waiting) {
        moves.push((Arc::clone(&task.key), Move::GiveWay));
    }
    let again = try_again(&suspended, &waiting, now);
    // A task that is due for a retry may be partly resumed, which must not be undone.
    let is_half = |task: &&Suspended| tasks[&task.key].nodes.iter().any(|(job, _)| !job.suspended);
    for task in suspended.iter().filter(is_half).filter(|task| !again.contains(task)) {
        moves.push((Arc::clone(&task.key), Move::Complete));
    }
    moves.extend(again.into_iter().map(|task| (Arc::clone(&task.key), Move::TryAgain)));
    moves
}

/// Makes a move, if a fresh read confirms that it still applies.
async fn make(background: &Background, key: &Arc<TaskKey>, task: &GangTask, what: Move) -> Result<(), Error> {
    const ACTION: &str = "suspend or resume the task";
    let Background { calls, cache, .. } = background;
    let Some(task) = fresh(calls, key, task).await? else {
        return Ok(());
    };
    let turn = task.turn();
    let task_id = &*key.id;
    match (what, turn.stage) {
        (Move::GiveWay, Stage::Waiting) if has_no_place(&task) && !task.has_begun() => {
            let times = task.nodes.iter().map(|(job, _)| job.gave_way).max().unwrap_or(0) + 1;
            let at = calls.now();
            if !take_turn(calls, cache, &task, turn.at(Stage::GaveWay { times, at })).await? {
                return Ok(());
            }
            tracing::info!(event = "gave_way", task_id, times, "a task gave way to an earlier one");
            change_jobs(calls, cache, ACTION, suspends(&task, at, times)).await
        }
        // Updating the owner here makes a concurrent `TryAgain` fail on its outdated `resourceVersion`.
        (Move::Complete, Stage::GaveWay { times, .. }) if !task.has_begun() => {
            let at = calls.now();
            if !take_turn(calls, cache, &task, turn.at(Stage::GaveWay { times, at })).await? {
                return Ok(());
            }
            change_jobs(calls, cache, ACTION, suspends(&task, at, times)).await
        }
        (Move::TryAgain, Stage::GaveWay { .. }) => {
            tracing::info!(event = "tries_again", task_id, "retrying a task that gave way");
            let resumes = task.nodes.iter().map(|(job, _)| change(job, resume()));
            change_jobs(calls, cache, ACTION, resumes.collect()).await?;
            take_turn(calls, cache, &task, turn.at(Stage::Waiting)).await.map(drop)
        }
        _ => Ok(()),
    }
}

/// Splits the tasks into those that wait for resources and those that gave way. `since` tracks how long each has
/// waited.
fn sort(tasks: &Tasks, since: &mut HashMap<Arc<TaskKey>, Instant>) -> (Vec<Waiting>, Vec<Suspended>) {
    let (mut waiting, mut suspended) = (Vec::new(), Vec::new());
    for (key, task) in tasks {
        let created_at = task.submitted_at();
        if let Stage::GaveWay { times, at } = task.turn().stage {
            suspended.push(Suspended {
                key: Arc::clone(key),
                created_at,
                at,
                times,
            });
        } else if task.turn().stage == Stage::Waiting && has_no_place(task) {
            waiting.push(Waiting {
                key: Arc::clone(key),
                created_at,
                held: held(task),
                since: since.entry(Arc::clone(key)).or_insert_with(Instant::now).elapsed(),
            });
        }
    }
    since.retain(|key, _| waiting.iter().any(|task| task.key == *key));
    (waiting, suspended)
}

/// Whether the scheduler cannot place a node, or Kubernetes refuses to create a pod, e.g., because of a quota.
fn has_no_place(task: &GangTask) -> bool {
    let mut pods = task.nodes.iter().filter_map(|(_, pod)| pod.as_ref());
    pods.any(Pod::is_unschedulable) || task.is_refused
}

/// How many nodes hold something that others wait for: a cluster node, or a share of the quota.
fn held(task: &GangTask) -> usize {
    let holds = |pod: &Pod| pod.node_name.is_some() || task.is_refused;
    task.nodes
        .iter()
        .filter(|(_, pod)| pod.as_ref().is_some_and(holds))
        .count()
}

fn change(job: &Job, merge: Value) -> Change {
    Change {
        object: target(&job.name, &job.uid),
        version: Some(job.version.clone()),
        merge,
    }
}

/// Patches that suspend the Jobs. The Job controller deletes the pods of a suspended Job without counting them as
/// failed.
fn suspends(task: &GangTask, at: jiff::Timestamp, times: u32) -> Vec<Change> {
    let suspend = json!({
        "metadata": {"annotations": {
            labels::GAVE_WAY_AT: task::time::format(at),
            labels::GAVE_WAY: times.to_string(),
        }},
        "spec": {"suspend": true},
    });
    let jobs = task.nodes.iter().map(|(job, _)| job).filter(|job| !job.suspended);
    jobs.map(|job| change(job, suspend.clone())).collect()
}

/// A patch that resumes a Job. Removing the annotation marks every later suspension as somebody else's.
fn resume() -> Value {
    json!({"metadata": {"annotations": {labels::GAVE_WAY_AT: null}}, "spec": {"suspend": false}})
}
