//! Doing what was decided about room: suspending the Jobs of the task that gives way, and resuming them.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::change::change_jobs;
use super::decide::target;
use super::room::{Suspended, Waiting, gives_way, try_again};
use crate::cache::{GangTask, Pod};
use crate::labels;
use crate::ticks::Background;

/// How often tasks that wait for room are looked at. It is a look into memory.
const INTERVAL: Duration = Duration::from_secs(2);

/// Lets tasks give way and try again, until the process stops.
pub(crate) async fn make_room(background: Background) {
    let mut ticks = background.every(INTERVAL);
    let mut since: HashMap<String, Instant> = HashMap::new();
    while ticks.next().await.is_some() {
        let tasks: HashMap<String, GangTask> = background.cache.waiting_gangs().into_iter().collect();
        for (id, change) in changes(&tasks, &mut since, Timestamp::now()) {
            let jobs = tasks[&id].nodes.iter().map(|(job, _)| target(&job.name, &job.uid));
            let changes = jobs.map(|job| (job, change.clone())).collect();
            let changed = change_jobs(&background.calls, &background.cache, "make room", changes).await;
            if let Err(error) = changed {
                tracing::warn!(task_id = id, %error, "the Jobs of a task could not be changed; trying again");
            }
        }
    }
}

/// What becomes of the Jobs of which task now.
fn changes(
    tasks: &HashMap<String, GangTask>,
    since: &mut HashMap<String, Instant>,
    now: Timestamp,
) -> Vec<(String, Value)> {
    let (waiting, suspended) = sort(tasks, since);
    let mut changes = Vec::new();
    if let Some(task) = gives_way(&waiting) {
        let times = tasks[&task.id].nodes[0].0.gave_way + 1;
        tracing::info!(
            event = "gave_way",
            task_id = task.id,
            times,
            "a task gives its place to an earlier one"
        );
        changes.push((task.id.clone(), suspend(now, times)));
    }
    let again = try_again(&suspended, &waiting, now);
    // A server that was killed in between has suspended a part of it. One that is to be resumed may be half so by now.
    let is_half = |task: &&Suspended| tasks[&task.id].nodes.iter().any(|(job, _)| !job.suspended);
    for task in suspended.iter().filter(is_half).filter(|task| !again.contains(task)) {
        changes.push((task.id.clone(), suspend(task.at, task.times)));
    }
    for task in again {
        tracing::info!(
            event = "tries_again",
            task_id = task.id,
            "a task that gave way tries again"
        );
        changes.push((task.id.clone(), resume()));
    }
    changes
}

/// The tasks that wait for room, and those that gave way. `since` remembers from when on each has waited.
fn sort(tasks: &HashMap<String, GangTask>, since: &mut HashMap<String, Instant>) -> (Vec<Waiting>, Vec<Suspended>) {
    let (mut waiting, mut suspended) = (Vec::new(), Vec::new());
    for (id, task) in tasks {
        let (job, _) = &task.nodes[0];
        let gave_way = task.nodes.iter().filter(|(job, _)| job.suspended);
        let gave_way = gave_way.filter_map(|(job, _)| Some((job.gave_way_at?, job.gave_way)));
        if let Some((at, times)) = gave_way.max() {
            suspended.push(Suspended {
                id: id.clone(),
                created_at: job.created_at,
                at,
                times,
            });
        } else if has_no_place(task) {
            let held = task
                .nodes
                .iter()
                .filter(|(_, pod)| pod.as_ref().is_some_and(|pod| pod.node_name.is_some()));
            waiting.push(Waiting {
                id: id.clone(),
                created_at: job.created_at,
                held: held.count(),
                since: since.entry(id.clone()).or_insert_with(Instant::now).elapsed(),
            });
        }
    }
    since.retain(|id, _| waiting.iter().any(|task| task.id == *id));
    (waiting, suspended)
}

/// Whether the scheduler has found no place for a node.
fn has_no_place(task: &GangTask) -> bool {
    let mut pods = task.nodes.iter().filter_map(|(_, pod)| pod.as_ref());
    pods.any(Pod::is_unschedulable)
}

/// Kubernetes deletes the pods of a suspended Job, without counting them as failed.
fn suspend(now: Timestamp, times: u32) -> Value {
    json!({
        "metadata": {"annotations": {
            labels::GAVE_WAY_AT: task::time::format(now),
            labels::GAVE_WAY: times.to_string(),
        }},
        "spec": {"suspend": true},
    })
}

/// What somebody else suspends from now on stays so.
fn resume() -> Value {
    json!({"metadata": {"annotations": {labels::GAVE_WAY_AT: null}}, "spec": {"suspend": false}})
}
