//! Ends tasks that could not be scheduled within their provisioning timeout.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::patch::{ObjectPatch, patch_jobs, patch_pods};
use super::refetch::refetch;
use super::take_turn::take_turn;
use super::task::ManagedTask;
use crate::cache::{Cache, Job, Phase, Pod, Stage, TaskKey};
use crate::controller::ControllerContext;
use crate::debounce::{CONFIRM_AFTER, Debounce};
use crate::error::Error;
use crate::kubernetes::ObjectRef;
use crate::labels;

/// How often waiting tasks are checked. A check only reads the cache.
const INTERVAL: Duration = Duration::from_secs(1);

/// Kubernetes truncates times to whole seconds, so an interval may be up to one second longer than it seems.
const ROUNDING: i64 = 1;

/// Enforces `provision_timeout` until shutdown.
pub(crate) async fn run(context: ControllerContext) {
    let mut ticker = context.ticker(INTERVAL);
    let mut debounce = Debounce::default();
    let mut admitted_at = AdmittedAt::default();
    while ticker.tick().await.is_some() {
        // Suspect tasks before their timeout, so that the patience of `Debounce` does not extend it.
        let now = context.client.now();
        let mut tasks = pending_tasks(&context.cache);
        admitted_at.observe(&tasks, now);
        tasks.retain(|(key, task)| !overdue(task, admitted_at.get(key), now + CONFIRM_AFTER).is_empty());
        for (key, task) in debounce.confirmed(tasks) {
            if overdue(&task, admitted_at.get(&key), now).is_empty() {
                continue;
            }
            if context.stop.is_cancelled() {
                break;
            }
            match end(&context, &key, &task, admitted_at.get(&key)).await {
                Ok(()) => {}
                // An object changed concurrently: the pod may have been scheduled.
                Err(error) if error.is_conflict() => {}
                Err(error) => context.warn(&format!("unplaced {} {error}", key.id), || {
                    tracing::warn!(task_id = %key.id, %error, "failed to end a task that could not be scheduled; retrying");
                }),
            }
        }
    }
}

/// The pending tasks with a provisioning timeout, and those for which a server has recorded that it elapsed.
fn pending_tasks(cache: &Cache) -> Vec<(Arc<TaskKey>, ManagedTask)> {
    ManagedTask::select(cache, |task| {
        let has_limit = task.jobs.last().is_some_and(|job| job.provision_timeout.is_some());
        let turn = task.owner().and_then(|owner| owner.turn);
        has_limit && (task.is_pending() || turn.is_some_and(|turn| turn.stage == Stage::ProvisionTimedOut))
    })
}

/// When each queued group of pods was admitted. Kubernetes does not record that time, so a server that has just started
/// uses its own start time, which can only extend the timeout.
#[derive(Default)]
struct AdmittedAt(HashMap<Arc<TaskKey>, Timestamp>);

impl AdmittedAt {
    fn observe(&mut self, tasks: &[(Arc<TaskKey>, ManagedTask)], now: Timestamp) {
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

    fn get(&self, key: &TaskKey) -> Option<Timestamp> {
        self.0.get(key).copied()
    }
}

/// Ends overdue nodes by their Jobs. Their pods go with them, but have no log yet, because no node has begun.
async fn end(
    context: &ControllerContext,
    key: &Arc<TaskKey>,
    task: &ManagedTask,
    admitted_at: Option<Timestamp>,
) -> Result<(), Error> {
    const ACTION: &str = "terminate a node";
    let ControllerContext { client, cache, .. } = context;
    let Some(task) = refetch(client, key, task).await? else {
        return Ok(());
    };
    let overdue = overdue(&task, admitted_at, client.now());
    if overdue.is_empty() {
        return Ok(());
    }
    // The recorded turn keeps the gate of a gang closed. Nodes of other tasks start on their own, so each is ended by
    // itself.
    let is_gang = task.nodes.iter().any(|(job, _)| job.gang.is_some());
    if !is_gang {
        end_waiting_pods(context, &task, &overdue).await?;
    } else if !take_turn(client, cache, &task, task.turn().at(Stage::ProvisionTimedOut)).await? {
        return Ok(());
    }
    tracing::info!(event = "provision_timeout", task_id = %key.id, nodes = overdue.len(), "a task was not scheduled in time");
    let change = |why: &str| {
        json!({
            "metadata": {"annotations": {labels::PROVISION_TIMED_OUT: why}},
            "spec": {"activeDeadlineSeconds": 1},
        })
    };
    let version = |job: &ObjectRef| {
        let nodes = task.nodes.iter().find(|(known, _)| known.uid == job.uid);
        nodes
            .filter(|(_, pod)| !is_gang && pod.is_none())
            .map(|(job, _)| job.version.clone())
    };
    let changes = overdue.iter().map(|(job, why)| ObjectPatch {
        object: job.clone(),
        version: version(job),
        merge: change(why),
    });
    patch_jobs(client, cache, ACTION, changes.collect()).await
}

/// Ends pods only in the version that was seen unscheduled: scheduling one meanwhile changes its version, and the patch
/// is rejected. A pod that is scheduled after the patch is ended by its kubelet.
async fn end_waiting_pods(
    context: &ControllerContext,
    task: &ManagedTask,
    overdue: &[(ObjectRef, String)],
) -> Result<(), Error> {
    let is_overdue = |job: &Job| overdue.iter().any(|(overdue, _)| overdue.uid == job.uid);
    let waiting = task
        .nodes
        .iter()
        .filter(|(job, _)| is_overdue(job))
        .filter_map(|(_, pod)| pod.as_ref());
    let change = |pod: &Pod| ObjectPatch {
        object: pod.object_ref(),
        version: Some(pod.version.clone()),
        merge: json!({"spec": {"activeDeadlineSeconds": 1}}),
    };
    let changes = waiting.filter(|pod| !pod.is_ending).map(change).collect();
    patch_pods(&context.client, &context.cache, "terminate an unscheduled pod", changes).await
}

/// The nodes whose timeout has elapsed, each with what keeps it from being scheduled. The other nodes end because of
/// these.
fn overdue(task: &ManagedTask, admitted_at: Option<Timestamp>, now: Timestamp) -> Vec<(ObjectRef, String)> {
    if task.has_started() || task.is_cancelled() {
        return Vec::new();
    }
    if task.turn().stage == Stage::ProvisionTimedOut {
        return remaining_overdue(task);
    }
    let is_over = |job: &Job| {
        let (Some(seconds), Some(since)) = (job.provision_timeout, waiting_since(job)) else {
            return false;
        };
        let since = admitted_at.map_or(since, |time| time.max(since));
        now.duration_since(since) > SignedDuration::from_secs(i64::from(seconds) + ROUNDING)
    };
    task.nodes
        .iter()
        .filter(|(job, _)| !job.is_over() && job.provision_timed_out.is_none() && is_over(job))
        .filter_map(|(job, pod)| Some((job.object_ref(), unscheduled_reason(job, pod.as_ref())?)))
        .collect()
}

/// The nodes that must still end after a server recorded `Stage::ProvisionTimedOut`. If all of them have been scheduled meanwhile, the
/// first one stands in, and the others end because of it.
fn remaining_overdue(task: &ManagedTask) -> Vec<(ObjectRef, String)> {
    let is_ending = |job: &Job| job.is_over() || job.provision_timed_out.is_some() || job.ended_because_of.is_some();
    let nodes = || task.nodes.iter().filter(|(job, _)| !is_ending(job));
    let without: Vec<_> = nodes()
        .filter_map(|(job, pod)| Some((job.object_ref(), unscheduled_reason(job, pod.as_ref())?)))
        .collect();
    let is_begun = task.nodes.iter().any(|(job, _)| job.provision_timed_out.is_some());
    if !without.is_empty() || is_begun {
        return without;
    }
    let too_late = || "it was scheduled only after the timeout".to_owned();
    nodes().take(1).map(|(job, _)| (job.object_ref(), too_late())).collect()
}

/// When a node began to wait for resources, or `None` while something else holds it, e.g., a queue.
fn waiting_since(job: &Job) -> Option<Timestamp> {
    // A Job that waited for its group may be days old.
    let begin = job
        .group_started_at
        .map_or(job.creation_timestamp, |at| at.max(job.creation_timestamp));
    match (job.suspended, job.preempted_at, job.preemptions) {
        (true, None, _) => None,
        (false, None, 0) => Some(job.started_at.unwrap_or(begin)),
        // Suspending a Job for giving way resets its start time, so count from its beginning.
        _ => Some(begin),
    }
}

/// What keeps a node from being scheduled, or `None` if it is scheduled.
fn unscheduled_reason(job: &Job, pod: Option<&Pod>) -> Option<String> {
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

    use super::{AdmittedAt, overdue};
    use super::{ManagedTask, ObjectRef};
    use crate::cache::{Gate, Job, Phase, Pod, Reason, Stage, TaskKey, TaskOwner, Turn};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn key() -> Arc<TaskKey> {
        Job::example(0, 2).key
    }

    fn task() -> ManagedTask {
        let job = |rank| Job {
            provision_timeout: Some(60),
            creation_timestamp: at(100),
            ..Job::example(rank, 2)
        };
        let scheduled = Pod::example(0, Phase::Running { since: None });
        let full = Reason::new("Unschedulable", "0/1 nodes are available: 1 Insufficient cpu.");
        let waiting = Pod {
            node_name: None,
            ..Pod::example(1, Phase::Pending(Some(full)))
        };
        ManagedTask {
            num_nodes: 2,
            nodes: vec![(job(0), Some(scheduled)), (job(1), Some(waiting))],
            ..ManagedTask::default()
        }
    }

    #[test]
    fn a_node_without_a_place_is_ended_when_its_time_is_over() {
        assert_eq!(overdue(&task(), None, at(161)), []);
        let ended = overdue(&task(), None, at(162));
        let why = "0/1 nodes are available: 1 Insufficient cpu.".to_owned();
        assert_eq!(ended, [(ObjectRef::new("job-1", "job-1"), why)]);
    }

    #[test]
    fn a_task_that_has_begun_or_was_ended_already_is_left_alone() {
        let mut begun = task();
        begun.nodes[0].1.as_mut().unwrap().gate = Gate::Start;
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
            stage: Stage::ProvisionTimedOut,
        });
        decided.owner = Some(TaskOwner {
            turn,
            ..TaskOwner::example()
        });
        let ranks = |task: &ManagedTask| -> Vec<String> {
            overdue(task, None, at(0))
                .into_iter()
                .map(|(job, _)| job.name)
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
            job.preemptions = 1;
        }
        assert_eq!(
            overdue(&queued, None, at(1000)),
            [],
            "somebody else has suspended it since"
        );
        for (job, _) in &mut queued.nodes {
            job.preempted_at = Some(at(110));
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
        let mut admitted_at = AdmittedAt::default();
        admitted_at.observe(&[(key(), queued.clone())], at(1000));
        assert_eq!(overdue(&queued, admitted_at.get(&key()), at(2000)), []);
        let mut waits = task();
        waits.nodes[0].0.queue = Some("team".into());
        admitted_at.observe(&[(key(), waits.clone())], at(1001));
        assert_eq!(overdue(&waits, admitted_at.get(&key()), at(1061)), []);
        assert_eq!(overdue(&waits, admitted_at.get(&key()), at(1062)).len(), 1);
        let mut restarted = AdmittedAt::default();
        restarted.observe(&[(key(), waits.clone())], at(1500));
        assert_eq!(overdue(&waits, restarted.get(&key()), at(1561)), []);
    }
}
