//! Doing what was decided, whenever a task has changed.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::stream::FuturesUnordered;
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::change::{CONCURRENT_CHANGES, change_jobs, change_pods};
use super::decide::{Action, Target, decide};
use super::pauses::Pauses;
use crate::cache::{Cache, GangTask};
use crate::error::Error;
use crate::kubernetes::{self, Calls, Created};
use crate::ticks::Background;
use crate::{labels, manifest};

/// How many tasks are looked after at once.
const CONCURRENT_TASKS: usize = 16;

/// How long changes are gathered before they are looked at: the nodes of a task come in one after the other.
const GATHER: Duration = Duration::from_millis(5);

/// The pause before something that failed, or could not be known, is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Looks after all tasks with several nodes, until the process stops.
pub(crate) async fn control(background: Background) {
    let stop = background.stop.clone();
    tokio::select! {
        () = stop.cancelled() => {}
        () = control_for_ever(background) => {}
    }
}

/// Each task is looked after by itself: one whose changes take long holds up no other.
async fn control_for_ever(background: Background) {
    let Background {
        calls, cache, health, ..
    } = background;
    let pauses = Pauses::default();
    let mut busy: HashSet<String> = HashSet::new();
    let mut work = FuturesUnordered::new();
    loop {
        let changed = async {
            cache.gangs_changed().await;
            sleep(GATHER).await;
        };
        // Whichever comes first, all that has changed is looked at below.
        tokio::select! {
            Some(id) = work.next() => {
                busy.remove(&id);
            }
            () = changed => {}
            () = sleep(RETRY), if health.check().is_err() => {}
        }
        // What is not known must not be acted on; the changes are kept.
        if health.check().is_err() {
            continue;
        }
        for (id, task) in cache.take_gangs(&busy, CONCURRENT_TASKS.saturating_sub(busy.len())) {
            busy.insert(id.clone());
            work.push(look_after(&calls, &cache, &pauses, id, task));
        }
    }
}

/// Takes the steps that can be taken now; gives the identifier back.
async fn look_after(calls: &Calls, cache: &Arc<Cache>, pauses: &Pauses, id: String, task: GangTask) -> String {
    if let (Some(_), Some((job, _))) = (task.restart, task.nodes.first())
        && let Some(left) = pauses.left(&id, job.attempt + 1, Instant::now())
    {
        look_again(cache, id.clone(), left);
        return id;
    }
    let mut failed = None;
    for action in decide(&task, Timestamp::now()) {
        tracing::debug!(task_id = id, ?action, "a task with several nodes");
        if let Err(error) = act(calls, cache, action).await {
            failed.get_or_insert(error);
        }
    }
    if let Some(error) = failed {
        tracing::warn!(task_id = id, %error, "the nodes of a task could not be changed; trying again");
        look_again(cache, id.clone(), RETRY);
    }
    id
}

fn look_again(cache: &Arc<Cache>, id: String, after: Duration) {
    let cache = Arc::clone(cache);
    tokio::spawn(async move {
        sleep(after).await;
        cache.look_again(id);
    });
}

/// Takes one step.
///
/// # Errors
/// Something could not be changed; the rest was.
pub(super) async fn act(calls: &Calls, cache: &Cache, action: Action) -> Result<(), Error> {
    match action {
        Action::MakeAttempt {
            from,
            attempt,
            restarts,
        } => make_attempt(calls, cache, from, attempt, restarts).await,
        Action::Remove { jobs } => {
            let delete = |(name, uid): Target| async move {
                calls
                    .delete::<kubernetes::Job>("delete the Jobs of an old attempt", &name, &uid, None)
                    .await
            };
            let deletes = stream::iter(jobs).map(delete).buffer_unordered(CONCURRENT_CHANGES);
            deletes.try_collect().await
        }
        Action::Begin { pods, node_ips } => {
            let change = |deadline: Option<i64>| {
                let annotations = json!({"annotations": {labels::NODE_IPS: node_ips}});
                match deadline {
                    Some(seconds) => json!({"metadata": annotations, "spec": {"activeDeadlineSeconds": seconds}}),
                    None => json!({"metadata": annotations}),
                }
            };
            let changes = pods.into_iter().map(|(pod, deadline)| (pod, change(deadline)));
            change_pods(calls, cache, "let the nodes begin", changes.collect()).await
        }
        Action::Run { pods } => {
            let change = json!({"metadata": {"annotations": {labels::RUN: labels::TRUE}}});
            change_pods(calls, cache, "let the nodes run", all(pods, &change)).await
        }
        Action::End { pods, jobs, because_of } => {
            let change = json!({
                "metadata": {"annotations": {labels::ENDED_BECAUSE_OF: because_of.to_string()}},
                "spec": {"activeDeadlineSeconds": 1},
            });
            // The kubelet ends a pod that is over its deadline with TERM, and keeps its log.
            let (pods, jobs) = tokio::join!(
                change_pods(calls, cache, "end a node", all(pods, &change)),
                change_jobs(calls, cache, "end a node", all(jobs, &change)),
            );
            pods.and(jobs)
        }
    }
}

fn all(targets: Vec<Target>, change: &Value) -> Vec<(Target, Value)> {
    targets.into_iter().map(|target| (target, change.clone())).collect()
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
            if job.metadata.uid.as_ref() != Some(&uid) {
                return Ok(());
            }
            let Some(next) = manifest::next_attempt(job, attempt, restarts) else {
                return Ok(());
            };
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
