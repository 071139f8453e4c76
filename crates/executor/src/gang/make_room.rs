//! Doing what was decided about room: suspending the Jobs of the task that gives way, and resuming them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::decide::Target;
use super::room::{Suspended, Waiting, gives_way, try_again};
use crate::cache::{Cache, GangTask, Health, Phase};
use crate::error::Error;
use crate::kubernetes::{self, Calls};
use crate::labels;

/// How often tasks that wait for room are looked at. It is a look into memory.
const INTERVAL: Duration = Duration::from_secs(2);

/// How many Jobs of one task are changed at once.
const CONCURRENT_CHANGES: usize = 32;

/// Lets tasks give way and try again, until `stop`.
pub(crate) async fn make_room(calls: Calls, cache: Arc<Cache>, health: Arc<Health>, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(INTERVAL);
    let mut since: HashMap<String, Instant> = HashMap::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        if health.check().is_err() {
            continue;
        }
        let tasks: HashMap<String, GangTask> = cache.waiting_gangs().into_iter().collect();
        let (waiting, suspended) = sort(&tasks, &mut since);
        let now = Timestamp::now();
        let mut changes = Vec::new();
        if let Some(task) = gives_way(&waiting) {
            let times = tasks[&task.id].nodes[0].0.gave_way.map_or(0, |(_, times)| times) + 1;
            tracing::info!(
                event = "gave_way",
                task_id = task.id,
                times,
                "a task gives its place to an earlier one"
            );
            changes.push((&task.id, suspend(now, times)));
        }
        // A server that was killed in between has suspended a part of it.
        let is_half = |task: &&Suspended| tasks[&task.id].nodes.iter().any(|(job, _)| !job.suspended);
        for task in suspended.iter().filter(is_half) {
            changes.push((&task.id, suspend(task.at, task.times)));
        }
        for task in try_again(&suspended, &waiting, now) {
            tracing::info!(
                event = "tries_again",
                task_id = task.id,
                "a task that gave way tries again"
            );
            changes.push((&task.id, json!({"spec": {"suspend": false}})));
        }
        for (id, change) in changes {
            if let Err(error) = change_jobs(&calls, &cache, &tasks[id], &change).await {
                tracing::warn!(task_id = id, %error, "the Jobs of a task could not be changed; trying again");
            }
        }
    }
}

/// The tasks that wait for room, and those that gave way. `since` remembers from when on each has waited.
fn sort(tasks: &HashMap<String, GangTask>, since: &mut HashMap<String, Instant>) -> (Vec<Waiting>, Vec<Suspended>) {
    let (mut waiting, mut suspended) = (Vec::new(), Vec::new());
    for (id, task) in tasks {
        let (job, _) = &task.nodes[0];
        let gave_way = task.nodes.iter().filter(|(job, _)| job.suspended);
        if let Some((at, times)) = gave_way.filter_map(|(job, _)| job.gave_way).max() {
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
    task.nodes.iter().any(|(_, pod)| {
        let reason = match pod.as_ref().map(|pod| &pod.phase) {
            Some(Phase::Pending(Some(reason))) => &reason.reason,
            _ => return false,
        };
        reason == "Unschedulable"
    })
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

async fn change_jobs(calls: &Calls, cache: &Cache, task: &GangTask, change: &Value) -> Result<(), Error> {
    let jobs: Vec<Target> = task
        .nodes
        .iter()
        .map(|(job, _)| (job.name.clone(), job.uid.clone()))
        .collect();
    let results: Vec<Result<(), Error>> = stream::iter(jobs)
        .map(|(name, uid)| async move {
            let changed = calls
                .merge::<kubernetes::Job>("make room", &name, &uid, change.clone())
                .await?;
            if let Some(job) = changed.and_then(crate::cache::Job::from_resource) {
                cache.changed_job(job);
            }
            Ok(())
        })
        .buffer_unordered(CONCURRENT_CHANGES)
        .collect()
        .await;
    results.into_iter().collect()
}
