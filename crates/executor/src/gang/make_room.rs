//! Doing what was decided about room: suspending the Jobs of the task that gives way, and resuming them.
//!
//! A task that gives way says so first in its owner (`Stage::GaveWay`), then all of its Jobs are suspended, by whichever server sees
//! that one is not. When it tries again, all of its Jobs are resumed, and then its owner is set back. So a Job that a late
//! change would suspend has another version by then, and the change is refused.

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

/// How often tasks that wait for room are looked at. It is a look into memory.
const INTERVAL: Duration = Duration::from_secs(2);

/// Tasks that none of whose nodes may begin, by their keys.
type Tasks = HashMap<Arc<TaskKey>, GangTask>;

/// What becomes of the Jobs of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Move {
    /// They are suspended, because the task gives way now.
    GiveWay,
    /// Those that are not yet are suspended: a server that was killed has suspended a part.
    Complete,
    /// They are resumed.
    TryAgain,
}

/// Lets tasks give way and try again, until the process stops.
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
                // Kubernetes or another server has changed something meanwhile; it is looked at again.
                Err(error) if error.is_conflict() => {}
                Err(error) => background.warn(&format!("room {} {error}", key.id), || {
                    tracing::warn!(task_id = %key.id, %error, "the Jobs of a task could not be changed; trying again");
                }),
            }
        }
    }
}

/// What becomes of which task now.
fn moves(tasks: &Tasks, since: &mut HashMap<Arc<TaskKey>, Instant>, now: jiff::Timestamp) -> Vec<(Arc<TaskKey>, Move)> {
    let (waiting, suspended) = sort(tasks, since);
    let mut moves = Vec::new();
    if let Some(task) = gives_way(&waiting) {
        moves.push((Arc::clone(&task.key), Move::GiveWay));
    }
    let again = try_again(&suspended, &waiting, now);
    // One that is to be resumed may be half so by now.
    let is_half = |task: &&Suspended| tasks[&task.key].nodes.iter().any(|(job, _)| !job.suspended);
    for task in suspended.iter().filter(is_half).filter(|task| !again.contains(task)) {
        moves.push((Arc::clone(&task.key), Move::Complete));
    }
    moves.extend(again.into_iter().map(|task| (Arc::clone(&task.key), Move::TryAgain)));
    moves
}

/// Looks at Kubernetes first: of what the cache shows, a part may be over.
async fn make(background: &Background, key: &Arc<TaskKey>, task: &GangTask, what: Move) -> Result<(), Error> {
    const ACTION: &str = "make room";
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
            tracing::info!(
                event = "gave_way",
                task_id,
                times,
                "a task gives its place to an earlier one"
            );
            change_jobs(calls, cache, ACTION, suspends(&task, at, times)).await
        }
        // Who resumes it at this moment looks again: the owner has another version then.
        (Move::Complete, Stage::GaveWay { times, .. }) if !task.has_begun() => {
            let at = calls.now();
            if !take_turn(calls, cache, &task, turn.at(Stage::GaveWay { times, at })).await? {
                return Ok(());
            }
            change_jobs(calls, cache, ACTION, suspends(&task, at, times)).await
        }
        (Move::TryAgain, Stage::GaveWay { .. }) => {
            tracing::info!(event = "tries_again", task_id, "a task that gave way tries again");
            let resumes = task.nodes.iter().map(|(job, _)| change(job, resume()));
            change_jobs(calls, cache, ACTION, resumes.collect()).await?;
            take_turn(calls, cache, &task, turn.at(Stage::Waiting)).await.map(drop)
        }
        _ => Ok(()),
    }
}

/// The tasks that wait for room, and those that gave way. `since` remembers from when on each has waited.
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

/// Whether the scheduler has found no place for a node, or Kubernetes refuses to make its pod, such as for a quota.
fn has_no_place(task: &GangTask) -> bool {
    let mut pods = task.nodes.iter().filter_map(|(_, pod)| pod.as_ref());
    pods.any(Pod::is_unschedulable) || task.is_refused
}

/// How many of its nodes have what others wait for: a place, or, where a quota is full, a pod.
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

/// Kubernetes deletes the pods of a suspended Job, without counting them as failed.
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

/// What somebody else suspends from now on stays so.
fn resume() -> Value {
    json!({"metadata": {"annotations": {labels::GAVE_WAY_AT: null}}, "spec": {"suspend": false}})
}
