//! Ends tasks that could not be scheduled within their provisioning timeout.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::change::{Change, change_jobs, change_pods};
use super::decide::{Target, target};
use super::fresh::fresh;
use super::take_turn::take_turn;
use crate::cache::{GangTask, Job, Phase, Pod, Stage, TaskKey};
use crate::error::Error;
use crate::labels;
use crate::suspicions::{PATIENCE, Suspicions};
use crate::ticks::Background;

/// How often waiting tasks are checked. A check only reads the cache.
const INTERVAL: Duration = Duration::from_secs(1);

/// Kubernetes truncates times to whole seconds, so an interval may be up to one second longer than it seems.
const ROUNDING: i64 = 1;

/// Enforces `provision_timeout` until shutdown.
pub(crate) async fn end_unplaced(background: Background) {
    let mut ticks = background.every(INTERVAL);
    let mut suspicions = Suspicions::default();
    let mut let_in = LetIn::default();
    while ticks.next().await.is_some() {
        // Suspect tasks before their timeout, so that the patience of `Suspicions` does not extend it.
        let now = background.calls.now();
        let mut tasks = background.cache.unplaced();
        let_in.look_at(&tasks, now);
        tasks.retain(|(key, task)| !overdue(task, let_in.of(key), now + PATIENCE).is_empty());
        for (key, task) in suspicions.lasting(tasks) {
            if overdue(&task, let_in.of(&key), now).is_empty() {
                continue;
            }
            if background.stop.is_cancelled() {
                break;
            }
            match end(&background, &key, &task, let_in.of(&key)).await {
                Ok(()) => {}
                // An object changed concurrently: the pod may have been scheduled.
                Err(error) if error.is_conflict() => {}
                Err(error) => background.warn(&format!("unplaced {} {error}", key.id), || {
                    tracing::warn!(task_id = %key.id, %error, "failed to end a task that could not be scheduled; retrying");
                }),
            }
        }
    }
}

/// When each queued group of pods was admitted. Kubernetes does not record that time, so a server that has just started
/// uses its own start time, which can only extend the timeout.
#[derive(Default)]
struct LetIn(HashMap<Arc<TaskKey>, Timestamp>);

impl LetIn {
    fn look_at(&mut self, tasks: &[(Arc<TaskKey>, GangTask)], now: Timestamp) {
        let known = std::mem::take(&mut self.0);
        for (key, task) in tasks {
            let mut nodes = task.nodes.iter();
            if nodes.any(|(_, pod)| pod.as_ref().is_some_and(Pod::is_gated)) {
                self.0.insert(Arc::clone(key), now);
            } else if task
                .nodes
                .iter()
                .any(|(job, _)| job.queue.is_some() && job.num_nodes > 1)
            {
                self.0.insert(Arc::clone(key), known.get(key).copied().unwrap_or(now));
            }
        }
    }

    fn of(&self, key: &TaskKey) -> Option<Timestamp> {
        self.0.get(key).copied()
    }
}

/// Ends overdue nodes by their Jobs. Their pods go with them, but have no log yet, because no node has begun.
async fn end(
    background: &Background,
    key: &Arc<TaskKey>,
    task: &GangTask,
    let_in: Option<Timestamp>,
) -> Result<(), Error> {
    const ACTION: &str = "terminate a node";
    let Background { calls, cache, .. } = background;
    let Some(task) = fresh(calls, key, task).await? else {
        return Ok(());
    };
    let overdue = overdue(&task, let_in, calls.now());
    if overdue.is_empty() {
        return Ok(());
    }
    // The recorded turn keeps the gate of a gang closed. Nodes of other tasks start on their own, so each is ended by
    // itself.
    let is_gang = task.nodes.iter().any(|(job, _)| job.gang.is_some());
    if !is_gang {
        end_waiting_pods(background, &task, &overdue).await?;
    } else if !take_turn(calls, cache, &task, task.turn().at(Stage::Unplaced)).await? {
        return Ok(());
    }
    tracing::info!(event = "provision_timeout", task_id = %key.id, nodes = overdue.len(), "a task was not scheduled in time");
    let change = |why: &str| {
        json!({
            "metadata": {"annotations": {labels::PROVISION_TIMED_OUT: why}},
            "spec": {"activeDeadlineSeconds": 1},
        })
    };
    let version = |job: &Target| {
        let nodes = task.nodes.iter().find(|(known, _)| known.uid == job.1);
        nodes
            .filter(|(_, pod)| !is_gang && pod.is_none())
            .map(|(job, _)| job.version.clone())
    };
    let changes = overdue.iter().map(|(job, why)| Change {
        object: job.clone(),
        version: version(job),
        merge: change(why),
    });
    change_jobs(calls, cache, ACTION, changes.collect()).await
}

/// Ends pods only in the version that was seen unscheduled: scheduling one meanwhile changes its version, and the patch
/// is rejected. A pod that is scheduled after the patch is ended by its kubelet.
async fn end_waiting_pods(background: &Background, task: &GangTask, overdue: &[(Target, String)]) -> Result<(), Error> {
    let is_overdue = |job: &Job| overdue.iter().any(|((_, uid), _)| *uid == job.uid);
    let waiting = task
        .nodes
        .iter()
        .filter(|(job, _)| is_overdue(job))
        .filter_map(|(_, pod)| pod.as_ref());
    let change = |pod: &Pod| Change {
        object: target(&pod.name, &pod.uid),
        version: Some(pod.version.clone()),
        merge: json!({"spec": {"activeDeadlineSeconds": 1}}),
    };
    let changes = waiting.filter(|pod| !pod.is_told_to_end).map(change).collect();
    change_pods(
        &background.calls,
        &background.cache,
        "terminate an unscheduled pod",
        changes,
    )
    .await
}

/// The nodes whose timeout has elapsed, each with what keeps it from being scheduled. The other nodes end because of
/// these.
fn overdue(task: &GangTask, let_in: Option<Timestamp>, now: Timestamp) -> Vec<(Target, String)> {
    if task.has_begun() {
        return Vec::new();
    }
    if task.turn().stage == Stage::Unplaced {
        return left_over(task);
    }
    let is_over = |job: &Job| {
        let (Some(seconds), Some(since)) = (job.provision_timeout, waits_since(job)) else {
            return false;
        };
        let since = let_in.map_or(since, |time| time.max(since));
        now.duration_since(since) > SignedDuration::from_secs(i64::from(seconds) + ROUNDING)
    };
    task.nodes
        .iter()
        .filter(|(job, _)| !job.is_over() && job.provision_timed_out.is_none() && is_over(job))
        .filter_map(|(job, pod)| Some((target(&job.name, &job.uid), unplaced(job, pod.as_ref())?)))
        .collect()
}

/// The nodes that must still end after a server recorded `Unplaced`. If all of them have been scheduled meanwhile, the
/// first one stands in, and the others end because of it.
fn left_over(task: &GangTask) -> Vec<(Target, String)> {
    let is_told = |job: &Job| job.is_over() || job.provision_timed_out.is_some() || job.ended_because_of.is_some();
    let nodes = || task.nodes.iter().filter(|(job, _)| !is_told(job));
    let without: Vec<_> = nodes()
        .filter_map(|(job, pod)| Some((target(&job.name, &job.uid), unplaced(job, pod.as_ref())?)))
        .collect();
    let is_begun = task.nodes.iter().any(|(job, _)| job.provision_timed_out.is_some());
    if !without.is_empty() || is_begun {
        return without;
    }
    let too_late = || "it was scheduled only after the timeout".to_owned();
    nodes()
        .take(1)
        .map(|(job, _)| (target(&job.name, &job.uid), too_late()))
        .collect()
}

/// When a node began to wait for resources, or `None` while something else holds it, e.g., a queue.
fn waits_since(job: &Job) -> Option<Timestamp> {
    match (job.suspended, job.gave_way_at, job.gave_way) {
        (true, None, _) => None,
        (false, None, 0) => Some(job.started_at.unwrap_or(job.made_at)),
        // Suspending a Job for giving way resets its start time, so count from its creation.
        _ => Some(job.made_at),
    }
}

/// What keeps a node from being scheduled, or `None` if it is scheduled.
fn unplaced(job: &Job, pod: Option<&Pod>) -> Option<String> {
    if job.suspended {
        return Some("it released its resources to an earlier task".to_owned());
    }
    match pod {
        Some(pod) if pod.node_name.is_some() || pod.is_gated() => None,
        Some(pod) => Some(match &pod.phase {
            Phase::Pending(Some(reason)) => reason.message.clone(),
            _ => "the pod is waiting to be scheduled".to_owned(),
        }),
        // The pod lost its labels, so its state is unknown; it may be running.
        None if job.is_active => None,
        None => Some("Kubernetes has not created its pod".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::Timestamp;

    use super::{LetIn, overdue};
    use crate::cache::{GangTask, Job, Phase, Pod, Reason, Stage, TaskKey, TaskOwner, Turn};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn key() -> Arc<TaskKey> {
        Job::example(0, 2).key
    }

    fn task() -> GangTask {
        let job = |rank| Job {
            provision_timeout: Some(60),
            made_at: at(100),
            ..Job::example(rank, 2)
        };
        let placed = Pod::example(0, Phase::Running { since: None });
        let full = Reason::new("Unschedulable", "0/1 nodes are available: 1 Insufficient cpu.");
        let waiting = Pod {
            node_name: None,
            ..Pod::example(1, Phase::Pending(Some(full)))
        };
        GangTask {
            num_nodes: 2,
            nodes: vec![(job(0), Some(placed)), (job(1), Some(waiting))],
            ..GangTask::default()
        }
    }

    #[test]
    fn a_node_without_a_place_is_ended_when_its_time_is_over() {
        assert_eq!(overdue(&task(), None, at(161)), []);
        let ended = overdue(&task(), None, at(162));
        let why = "0/1 nodes are available: 1 Insufficient cpu.".to_owned();
        assert_eq!(ended, [(("job-1".to_owned(), "job-1".to_owned()), why)]);
    }

    #[test]
    fn a_task_that_has_begun_or_was_ended_already_is_left_alone() {
        let mut begun = task();
        begun.nodes[0].1.as_mut().unwrap().may_begin = true;
        assert_eq!(overdue(&begun, None, at(1000)), []);
        let mut ended = task();
        ended.nodes[1].0.provision_timed_out = Some("full".into());
        assert_eq!(overdue(&ended, None, at(1000)), []);
    }

    #[test]
    fn a_node_whose_pod_exists_and_cannot_be_seen_is_left_alone() {
        let mut hidden = task();
        hidden.nodes[1].1 = None;
        assert_eq!(overdue(&hidden, None, at(1000)).len(), 1);
        hidden.nodes[1].0.is_active = true;
        assert_eq!(overdue(&hidden, None, at(1000)), []);
    }

    #[test]
    fn what_was_decided_is_done_to_the_end_also_when_there_is_a_place_by_now() {
        let mut decided = task();
        let turn = Some(Turn {
            attempt: 1,
            stage: Stage::Unplaced,
        });
        decided.owner = Some(TaskOwner {
            turn,
            ..TaskOwner::example()
        });
        let ranks = |task: &GangTask| -> Vec<String> {
            overdue(task, None, at(0))
                .into_iter()
                .map(|((name, _), _)| name)
                .collect()
        };
        assert_eq!(ranks(&decided), ["job-1"]);
        decided.nodes[1].1.as_mut().unwrap().node_name = Some("machine".to_owned());
        assert_eq!(ranks(&decided), ["job-0"]);
        decided.nodes[0].0.provision_timed_out = Some("too late".into());
        assert_eq!(ranks(&decided), Vec::<String>::new(), "the other ends because of it");
    }

    #[test]
    fn the_time_in_a_queue_does_not_count_but_that_after_giving_way_does() {
        let mut queued = task();
        for (job, pod) in &mut queued.nodes {
            job.suspended = true;
            *pod = None;
        }
        assert_eq!(overdue(&queued, None, at(1000)), []);
        for (job, _) in &mut queued.nodes {
            job.gave_way = 1;
        }
        assert_eq!(
            overdue(&queued, None, at(1000)),
            [],
            "somebody else has suspended it since"
        );
        for (job, _) in &mut queued.nodes {
            job.gave_way_at = Some(at(110));
        }
        assert_eq!(overdue(&queued, None, at(162)).len(), 2);
        let mut resumed = task();
        for (job, _) in &mut resumed.nodes {
            job.started_at = Some(at(500));
        }
        assert_eq!(overdue(&resumed, None, at(561)), []);
        assert_eq!(overdue(&resumed, None, at(562)).len(), 1);
    }

    #[test]
    fn the_time_of_pods_in_a_queue_begins_when_they_are_let_in() {
        let mut queued = task();
        let gated = Reason::new(
            "SchedulingGated",
            "Scheduling is blocked due to non-empty scheduling gates",
        );
        for (job, pod) in &mut queued.nodes {
            job.queue = Some("team".into());
            let pod = pod.as_mut().unwrap();
            (pod.node_name, pod.phase) = (None, Phase::Pending(Some(gated.clone())));
        }
        let mut let_in = LetIn::default();
        let_in.look_at(&[(key(), queued.clone())], at(1000));
        assert_eq!(overdue(&queued, let_in.of(&key()), at(2000)), []);
        let mut waits = task();
        waits.nodes[0].0.queue = Some("team".into());
        let_in.look_at(&[(key(), waits.clone())], at(1001));
        assert_eq!(overdue(&waits, let_in.of(&key()), at(1061)), []);
        assert_eq!(overdue(&waits, let_in.of(&key()), at(1062)).len(), 1);
        let mut restarted = LetIn::default();
        restarted.look_at(&[(key(), waits.clone())], at(1500));
        assert_eq!(overdue(&waits, restarted.of(&key()), at(1561)), []);
    }
}
