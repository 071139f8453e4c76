//! Carries out the steps from `decide` whenever a task changes.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::change::{CONCURRENT_CHANGES, Change, change_jobs, change_pods};
use super::decide::{Action, Outlived, Target, decide};
use super::fresh::fresh;
use super::pauses::Pauses;
use super::settling::Settling;
use super::take_turn::take_turn;
use crate::backoff::Backoff;
use crate::cache::{Cache, GangTask, Job, Stage, TaskKey, Turn};
use crate::error::Error;
use crate::kubernetes::{self, Calls, Created};
use crate::ticks::Background;
use crate::{labels, manifest};

/// How many tasks are worked on concurrently.
const CONCURRENT_TASKS: usize = 16;

/// How long to collect changes before acting on them: the nodes of a task change in quick succession.
const GATHER: Duration = Duration::from_millis(5);

/// The pauses before a failed step is retried, or the cache's health is checked again.
const RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// How soon to look at a task again after another server changed its owner first.
const OUTRUN: Duration = Duration::from_millis(200);

/// Works on all gangs and retriable tasks until shutdown.
pub(crate) async fn control(background: Background) {
    let stop = background.stop.clone();
    tokio::select! {
        () = stop.cancelled() => {}
        () = control_for_ever(background) => {}
    }
}

/// The result of working on a task.
enum Outcome {
    /// Every possible step was taken.
    Done,
    /// Look at the task again after this time.
    Later(Duration),
    Failed(Error),
}

/// Timers that delay some steps.
struct Waits {
    attempts: Pauses,
    gates: Settling,
}

/// Works on each task separately, so that a slow one does not delay the others.
async fn control_for_ever(background: Background) {
    let Background { cache, health, .. } = &background;
    let waits = Waits {
        attempts: Pauses::default(),
        gates: Settling::new(background.hears_within),
    };
    let mut busy: HashSet<Arc<TaskKey>> = HashSet::new();
    let mut failing: HashMap<Arc<TaskKey>, Backoff> = HashMap::new();
    let mut work = FuturesUnordered::new();
    loop {
        let changed = async {
            cache.gangs_changed().await;
            sleep(GATHER).await;
        };
        // Fall through whichever fires first: the code below handles everything that has changed.
        tokio::select! {
            Some((key, outcome)) = work.next() => {
                busy.remove(&key);
                finish(&background, &mut failing, key, outcome);
            }
            () = changed => {}
            () = sleep(RETRY), if health.check().is_err() => {}
        }
        // An outdated cache must not be acted on. The changes stay queued.
        if health.check().is_err() {
            continue;
        }
        for (key, task) in cache.take_gangs(&busy, CONCURRENT_TASKS.saturating_sub(busy.len())) {
            busy.insert(Arc::clone(&key));
            work.push(async {
                let outcome = look_after(&background.calls, cache, &waits, &key, task).await;
                (key, outcome)
            });
        }
    }
}

/// Records the outcome for a task, and schedules the next look at it if there is more to do.
fn finish(background: &Background, failing: &mut HashMap<Arc<TaskKey>, Backoff>, key: Arc<TaskKey>, outcome: Outcome) {
    let error = match outcome {
        Outcome::Failed(error) => error,
        Outcome::Done | Outcome::Later(_) => {
            if failing.remove(&key).is_some() {
                background.cache.obstructed(&key, None);
            }
            if let Outcome::Later(pause) = outcome {
                look_again(&background.cache, key, pause);
            }
            return;
        }
    };
    let task_id = &*key.id;
    background.warn(&format!("control {task_id} {error}"), || {
        tracing::warn!(task_id, %error, "failed to change the nodes of a task; retrying");
    });
    background.cache.obstructed(&key, Some(error.to_string()));
    failing.retain(|key, _| background.cache.has(key));
    let backoff = failing
        .entry(Arc::clone(&key))
        .or_insert_with(|| Backoff::new(RETRY, LONGEST_RETRY));
    look_again(&background.cache, key, backoff.next());
}

/// Takes every step that is possible now.
async fn look_after(calls: &Calls, cache: &Cache, waits: &Waits, key: &Arc<TaskKey>, task: GangTask) -> Outcome {
    if let (Some(_), Some((job, _))) = (task.restart, task.nodes.first())
        && let Some(left) = waits.attempts.left(key, job.attempt + 1, Instant::now())
    {
        return Outcome::Later(left);
    }
    steps(calls, cache, waits, key, task)
        .await
        .unwrap_or_else(Outcome::Failed)
}

/// Decides on steps and takes them. Irreversible steps are decided again on a fresh read, since the cache may lag.
async fn steps(
    calls: &Calls,
    cache: &Cache,
    waits: &Waits,
    key: &Arc<TaskKey>,
    mut task: GangTask,
) -> Result<Outcome, Error> {
    let mut actions = decide(&task, calls.now());
    let mut is_fresh = false;
    if actions.iter().any(Action::is_final) {
        let Some(now) = fresh(calls, key, &task).await? else {
            return Ok(Outcome::Done);
        };
        actions = decide(&now, calls.now());
        (task, is_fresh) = (now, true);
    }
    let held_back = waits.gates.hold_back(key, &mut actions, Instant::now());
    let (mut failed, mut is_first) = (None, true);
    for action in actions {
        tracing::debug!(task_id = %key.id, ?action, "taking a step for a task");
        match turn_for(&task, &action) {
            Some(turn) if !take_turn(calls, cache, &task, turn).await? => is_first = false,
            _ => {
                if let Err(error) = act(calls, cache, action).await {
                    failed.get_or_insert(error);
                }
            }
        }
    }
    if !is_first && !is_fresh {
        // The owner watch may lag; a fresh read shows what the other server wrote.
        if let Some(owner) = fresh(calls, key, &task).await?.and_then(|task| task.owner) {
            cache.made(Some(owner), Vec::new());
        }
    }
    match (failed, held_back) {
        (Some(error), _) => Err(error),
        (None, Some(left)) => Ok(Outcome::Later(left)),
        (None, None) if is_first => Ok(Outcome::Done),
        (None, None) => Ok(Outcome::Later(OUTRUN)),
    }
}

/// The turn that the owner must record before this step may be taken.
fn turn_for(task: &GangTask, action: &Action) -> Option<Turn> {
    match action {
        Action::Begin { .. } | Action::Run { .. } => Some(task.turn().at(Stage::Begun)),
        Action::MakeAttempt { attempt, .. } if task.turn().attempt < *attempt => Some(Turn {
            attempt: *attempt,
            stage: Stage::Waiting,
        }),
        Action::MakeAttempt { .. } | Action::End { .. } | Action::EndOthers { .. } | Action::Remove { .. } => None,
    }
}

fn look_again(cache: &Arc<Cache>, key: Arc<TaskKey>, after: Duration) {
    let cache = Arc::clone(cache);
    tokio::spawn(async move {
        sleep(after).await;
        cache.look_again(key);
    });
}

/// Takes one step. If a part of it fails, the rest is still done, and the error is returned.
pub(super) async fn act(calls: &Calls, cache: &Cache, action: Action) -> Result<(), Error> {
    match action {
        Action::MakeAttempt {
            from,
            attempt,
            restarts,
        } => make_attempt(calls, cache, from, attempt, restarts).await,
        Action::Remove { jobs } => {
            let delete = |(name, uid): Target| async move {
                let target = kubernetes::Target {
                    name: &name,
                    uid: &uid,
                    version: None,
                };
                calls
                    .delete::<kubernetes::Job>("delete the Jobs of an old attempt", target)
                    .await
            };
            let deletes = stream::iter(jobs).map(delete).buffer_unordered(CONCURRENT_CHANGES);
            deletes.try_for_each(|_| async { Ok(()) }).await
        }
        Action::EndOthers { nodes } => end_others(calls, cache, nodes).await,
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
                .map(|(pod, deadline)| Change::of(pod, change(deadline)));
            change_pods(calls, cache, "start the nodes", changes.collect()).await
        }
        Action::Run { pods } => {
            let change = json!({"metadata": {"annotations": {labels::RUN: labels::TRUE}}});
            change_pods(calls, cache, "start `run` on the nodes", all(pods, &change)).await
        }
        Action::End { pods, jobs, because_of } => {
            let change = json!({
                "metadata": {"annotations": {labels::ENDED_BECAUSE_OF: because_of.to_string()}},
                "spec": {"activeDeadlineSeconds": 1},
            });
            // The kubelet sends SIGTERM to a pod that exceeds its deadline, and keeps its log. Deleting the pod would
            // lose it.
            let (pods, jobs) = tokio::join!(
                change_pods(calls, cache, "terminate a node", all(pods, &change)),
                change_jobs(calls, cache, "terminate a node", all(jobs, &change)),
            );
            pods.and(jobs)
        }
    }
}

fn all(targets: Vec<Target>, change: &Value) -> Vec<Change> {
    targets
        .into_iter()
        .map(|target| Change::of(target, change.clone()))
        .collect()
}

/// Records the exit code on the Job and the pod before the pod is ended: afterwards both only report
/// `DeadlineExceeded`.
async fn end_others(calls: &Calls, cache: &Cache, nodes: Vec<Outlived>) -> Result<(), Error> {
    const ACTION: &str = "terminate the other containers of a node";
    let ended = |code: i32| json!({"annotations": {labels::EXIT_CODE: code.to_string()}});
    let jobs = nodes
        .iter()
        .map(|node| Change::of(node.job.clone(), json!({"metadata": ended(node.exit_code)})));
    change_jobs(calls, cache, ACTION, jobs.collect()).await?;
    let end = |node: Outlived| {
        Change::of(
            node.pod,
            json!({"metadata": ended(node.exit_code), "spec": {"activeDeadlineSeconds": 1}}),
        )
    };
    change_pods(calls, cache, ACTION, nodes.into_iter().map(end).collect()).await
}

/// Creates the Jobs of the next attempt. The attempt number is part of their names, so two servers cannot create
/// duplicates.
async fn make_attempt(
    calls: &Calls,
    cache: &Cache,
    from: Vec<Target>,
    attempt: u32,
    restarts: u32,
) -> Result<(), Error> {
    const ACTION: &str = "retry the task";
    let results: Vec<Result<(), Error>> = stream::iter(from)
        .map(|(name, uid)| async move {
            let Some(job) = calls.get::<kubernetes::Job>(ACTION, &name).await? else {
                return Ok(());
            };
            if job.metadata.uid.as_ref() != Some(&uid) {
                return Ok(());
            }
            let ended_at = Job::from_resource(job.clone()).ok().and_then(|job| job.ended_at);
            let Some(next) = manifest::next_attempt(job, attempt, restarts) else {
                return Ok(());
            };
            let made = match calls.create(ACTION, &next, &mut Vec::new()).await? {
                Created::Made(job) | Created::Shared(job) => Job::from_resource(job).ok(),
                Created::Taken(_) => None,
            };
            // A Job that is older than the end of the previous attempt was created by somebody who guessed its name.
            match made.filter(|made| ended_at.is_none_or(|ended_at| made.made_at >= ended_at)) {
                Some(made) => cache.made(None, vec![made]),
                None => {
                    let name = next.metadata.name.unwrap_or_default();
                    return Err(Error::NameTaken { name });
                }
            }
            Ok(())
        })
        .buffer_unordered(CONCURRENT_CHANGES)
        .collect()
        .await;
    results.into_iter().collect()
}
