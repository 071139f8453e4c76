//! Doing what was decided, whenever a task has changed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use serde_json::{Value, json};
use task::Name;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::decide::{Action, Target, decide};
use super::pauses::Pauses;
use crate::cache::{Cache, GangTask, Health, Pod};
use crate::error::Error;
use crate::kubernetes::{self, Calls, Created};
use crate::{labels, manifest};

/// How many tasks are looked after at once, and how many objects of each are changed at once.
const CONCURRENT_TASKS: usize = 8;
const CONCURRENT_CHANGES: usize = 32;

/// How long changes are gathered before they are looked at: the nodes of a task come in one after the other.
const GATHER: Duration = Duration::from_millis(5);

/// The pause before something that failed, or could not be known, is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Looks after all tasks with several nodes, until `stop`.
pub(crate) async fn control(calls: Calls, cache: Arc<Cache>, health: Arc<Health>, stop: CancellationToken) {
    let pauses = Pauses::default();
    let work = async {
        loop {
            cache.gangs_changed().await;
            sleep(GATHER).await;
            // What is not known must not be acted on; the changes are kept.
            while health.check().is_err() {
                sleep(RETRY).await;
            }
            stream::iter(cache.take_gangs())
                .for_each_concurrent(CONCURRENT_TASKS, |(id, task)| {
                    look_after(&calls, &cache, &pauses, id, task)
                })
                .await;
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = work => {}
    }
}

async fn look_after(calls: &Calls, cache: &Arc<Cache>, pauses: &Pauses, id: String, task: GangTask) {
    if let (Some(_), Some((job, _))) = (task.restart, task.nodes.first())
        && let Some(left) = pauses.left(&id, job.attempt + 1, Instant::now())
    {
        look_again(cache, id, left);
        return;
    }
    let results: Vec<Result<(), Error>> = stream::iter(decide(&task))
        .map(|action| {
            tracing::debug!(task_id = id, ?action, "a task with several nodes");
            act(calls, cache, action)
        })
        .buffer_unordered(CONCURRENT_CHANGES)
        .collect()
        .await;
    let failed = results.into_iter().find_map(Result::err);
    if let Some(error) = failed {
        tracing::warn!(task_id = id, %error, "the nodes of a task could not be changed; trying again");
        look_again(cache, id, RETRY);
    }
}

fn look_again(cache: &Arc<Cache>, id: String, after: Duration) {
    let cache = Arc::clone(cache);
    tokio::spawn(async move {
        sleep(after).await;
        cache.look_again(id);
    });
}

async fn act(calls: &Calls, cache: &Cache, action: Action) -> Result<(), Error> {
    match action {
        Action::MakeAttempt {
            from,
            attempt,
            restarts,
        } => make_attempt(calls, cache, from, attempt, restarts).await,
        Action::Begin { pods, node_ips } => {
            let change = |deadline: Option<i64>| {
                let annotations = json!({"annotations": {labels::NODE_IPS: node_ips}});
                match deadline {
                    Some(seconds) => json!({"metadata": annotations, "spec": {"activeDeadlineSeconds": seconds}}),
                    None => json!({"metadata": annotations}),
                }
            };
            let changes = pods
                .into_iter()
                .map(|(pod, deadline)| (pod, change(deadline)))
                .collect();
            change_pods(calls, cache, "let the nodes begin", changes).await
        }
        Action::Run { pods } => {
            let change = json!({"metadata": {"annotations": {labels::RUN: labels::TRUE}}});
            let changes = pods.into_iter().map(|pod| (pod, change.clone())).collect();
            change_pods(calls, cache, "let the nodes run", changes).await
        }
        Action::EndPod { pod, because_of } => {
            // The kubelet ends a pod that is over its deadline with TERM, and keeps its log.
            change_pods(calls, cache, "end a node", vec![(pod, end(because_of))]).await
        }
        Action::EndJob {
            job: (name, uid),
            because_of,
        } => {
            let job = calls
                .merge::<kubernetes::Job>("end a node", &name, &uid, end(because_of))
                .await?;
            if let Some(job) = job.and_then(crate::cache::Job::from_resource) {
                cache.changed_job(job);
            }
            Ok(())
        }
    }
}

fn end(because_of: u32) -> Value {
    json!({
        "metadata": {"annotations": {labels::ENDED_BECAUSE_OF: because_of.to_string()}},
        "spec": {"activeDeadlineSeconds": 1},
    })
}

/// Makes the Jobs of the next attempt. Their names follow from its number: whoever makes them, there is one of each.
async fn make_attempt(
    calls: &Calls,
    cache: &Cache,
    from: Vec<Target>,
    attempt: u32,
    restarts: u32,
) -> Result<(), Error> {
    const ACTION: &str = "run the task again";
    let results: Vec<Result<(), Error>> = stream::iter(from)
        .map(|(name, uid)| async move {
            let Some(job) = calls.get::<kubernetes::Job>(ACTION, &name).await? else {
                return Ok(());
            };
            let task_name = crate::cache::Job::from_resource(job.clone()).and_then(|job| Name::of(&job.task_name));
            let (Some(task_name), true) = (task_name, job.metadata.uid.as_ref() == Some(&uid)) else {
                return Ok(());
            };
            let next = manifest::next_attempt(job, &task_name, attempt, restarts);
            if let Created::Ours(job) = calls.create(ACTION, &next).await?
                && let Some(job) = crate::cache::Job::from_resource(job)
            {
                cache.made(None, vec![job]);
            }
            Ok(())
        })
        .buffer_unordered(CONCURRENT_CHANGES)
        .collect()
        .await;
    results.into_iter().collect()
}

/// Changes pods, as many as possible: one that cannot be changed does not keep the others waiting.
async fn change_pods(
    calls: &Calls,
    cache: &Cache,
    action: &'static str,
    changes: Vec<(Target, Value)>,
) -> Result<(), Error> {
    let results: Vec<Result<(), Error>> = stream::iter(changes)
        .map(|((name, uid), change)| async move {
            let changed = calls.merge::<kubernetes::Pod>(action, &name, &uid, change).await?;
            if let Some(pod) = changed.and_then(Pod::from_resource) {
                cache.changed_pod(pod);
            }
            Ok(())
        })
        .buffer_unordered(CONCURRENT_CHANGES)
        .collect()
        .await;
    results.into_iter().collect()
}
