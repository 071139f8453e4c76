//! A task as the controllers see it: its Jobs in rank order, each with its newest pod.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use task::TaskState;

use crate::cache::{
    Attempts, Cache, CacheEntry, Job, Members, Pod, Restart, Stage, Task, TaskKey, TaskOwner, Turn, due_restart,
    is_cancelled, newest_pods, outcome, unrecorded_end,
};

/// How many earlier attempts keep their Jobs, with the logs of their pods. Without a limit, a task that is preempted
/// every hour would fill the namespace.
pub(crate) const ATTEMPT_HISTORY_LIMIT: u32 = 10;

/// How far the clocks of the server and of Kubernetes may disagree about when a task was submitted.
const AGREEMENT: SignedDuration = SignedDuration::from_mins(1);

/// A task that a controller works on: a gang, or a task that may be retried or has a provisioning timeout.
#[derive(Debug, Clone, Default)]
pub(crate) struct ManagedTask {
    /// How many nodes the task has. There may be fewer Jobs while some are still being created.
    pub num_nodes: u32,
    /// The nodes of the current attempt.
    pub nodes: Vec<(Job, Option<Pod>)>,
    /// The Jobs of the previous attempt.
    pub previous: Vec<Job>,
    /// The Jobs of attempts that are too old to keep.
    pub outdated: Vec<Job>,
    /// Set if the current attempt has failed and the next one can start.
    pub restart: Option<Restart>,
    /// The owner of the Jobs.
    pub owner: Option<TaskOwner>,
    /// Jobs of attempts that the owner has not begun, with their attempt. Another server has just begun it, or somebody has
    /// guessed their names.
    pub unbegun: Vec<(u32, String)>,
    /// Whether Kubernetes refuses to create one of its pods, e.g., because of a quota.
    pub is_pod_rejected: bool,
}

impl ManagedTask {
    /// Assembles a task from its objects, in any order. Drops Jobs and pods that only claim to belong to it.
    pub(crate) fn of(owner: Option<TaskOwner>, mut jobs: Vec<Job>, pods: &[Pod], num_nodes: u32) -> Self {
        let unbegun = jobs
            .iter()
            .filter(|job| owner.as_ref().is_some_and(|owner| owner.has_not_begun(job)));
        let unbegun = unbegun.map(|job| (job.attempt, job.name.clone())).collect();
        let members = Members::of(owner.as_slice(), jobs.iter());
        let is_member: Vec<bool> = jobs.iter().map(|job| members.include(job)).collect();
        let mut is_member = is_member.into_iter();
        jobs.retain(|_| is_member.next().unwrap_or(false));
        jobs.sort_unstable_by(|left, right| left.sort_key().cmp(&right.sort_key()));
        let attempts = Attempts::of(&jobs);
        Self {
            restart: due_restart(attempts, pods).filter(|_| !is_cancelled(owner.as_ref(), attempts.current)),
            unbegun,
            owner,
            ..Self::of_attempts(attempts, pods, num_nodes)
        }
    }

    /// The task in the cache, or `None` if it needs no attention: a single node that is not retried, or a finished
    /// task whose end is recorded.
    pub(crate) fn from_cache(task: &Task) -> Option<Self> {
        let snapshot = task.snapshot.as_ref()?;
        let jobs = Attempts::of(&task.jobs);
        let current = jobs.current;
        let first = current.first()?;
        let has_leftover_containers = task.pods.iter().any(|pod| pod.has_leftover_containers);
        let is_managed = first.gang.is_some()
            || first.may_be_retried()
            || first.provision_timeout.is_some()
            || first.held.is_some()
            || task.is_cancelled();
        let has_job = |job: &Job| current.iter().any(|current| current.rank == job.rank);
        let is_complete = jobs.previous().iter().all(has_job);
        let is_over = snapshot.state.is_final() && is_complete && current.iter().all(Job::is_over);
        let needs_attention = has_leftover_containers || is_managed && !is_over || has_unrecorded_end(task);
        if task.is_terminating() || !needs_attention {
            return None;
        }
        Self::any_from_cache(task)
    }

    /// The task in the cache, or `None` if it is not visible.
    pub(crate) fn any_from_cache(task: &Task) -> Option<Self> {
        let snapshot = task.snapshot.as_ref()?;
        Some(Self {
            restart: snapshot.restart.filter(|restart| restart.is_due),
            owner: task.owner().cloned(),
            ..Self::of_attempts(Attempts::of(&task.jobs), &task.pods, snapshot.num_nodes)
        })
    }

    /// How the task has ended for good, or `None` if it has not.
    pub(crate) fn outcome(&self) -> Option<TaskState> {
        let jobs = self.previous.iter().chain(self.nodes.iter().map(|(job, _)| job));
        let jobs: Vec<Job> = jobs.cloned().collect();
        let pods: Vec<Pod> = self.nodes.iter().filter_map(|(_, pod)| pod.clone()).collect();
        outcome(Attempts::of(&jobs), &pods, self.is_cancelled())
    }

    /// Whether the user canceled the task.
    pub(crate) fn is_cancelled(&self) -> bool {
        is_cancelled(self.owner.as_ref(), self.nodes.iter().map(|(job, _)| job))
    }

    /// The tasks in the cache that need attention and that `is_wanted` accepts.
    pub(crate) fn select(cache: &Cache, is_wanted: impl Fn(&Task) -> bool) -> Vec<(Arc<TaskKey>, Self)> {
        cache.select(|entry: CacheEntry<'_>| {
            let mut task = Some(entry.task)
                .filter(|task| is_wanted(task))
                .and_then(Self::from_cache)?;
            let is_pod_rejected = |(job, pod): &(Job, Option<Pod>)| pod.is_none() && entry.has_failed_create(job);
            task.is_pod_rejected = task.nodes.iter().any(is_pod_rejected);
            Some((Arc::clone(entry.key), task))
        })
    }

    /// The current turn according to the owner. Owners created by older versions record none, so it is derived from the
    /// Jobs.
    pub(crate) fn turn(&self) -> Turn {
        let recorded = self.owner.as_ref().and_then(|owner| owner.turn);
        let turn = recorded.unwrap_or(Turn {
            attempt: self.nodes.first().map_or(1, |(job, _)| job.attempt),
            stage: Stage::Waiting,
        });
        if turn.stage != Stage::Waiting {
            return turn;
        }
        // A delayed suspend may arrive after the owner was reset. Such a Job must still be resumed, so the task still
        // counts as giving way.
        let preemptions = self.nodes.iter().filter(|(job, _)| job.is_suspended());
        let preemptions = preemptions
            .filter_map(|(job, _)| Some((job.preempted_at?, job.preemptions)))
            .max();
        turn.at(preemptions.map_or(Stage::Waiting, |(at, times)| Stage::Preempted { times, at }))
    }

    /// When the task was submitted, for ordering tasks. The annotation has fractions of a second, but anybody can edit
    /// it, so it counts only if it roughly agrees with Kubernetes.
    pub(crate) fn submitted_at(&self) -> Timestamp {
        let Some((job, _)) = self.nodes.first() else {
            return Timestamp::MAX;
        };
        let creation_timestamp = self
            .owner
            .as_ref()
            .map_or(job.creation_timestamp, |owner| owner.creation_timestamp);
        let is_near = job.created_at.duration_since(creation_timestamp).abs() <= AGREEMENT;
        if is_near { job.created_at } else { creation_timestamp }
    }

    /// Whether the start gate is open or about to be opened.
    pub(crate) fn has_started(&self) -> bool {
        let may_start = |pod: &Option<Pod>| pod.as_ref().is_some_and(|pod| pod.may_start());
        self.turn().stage == Stage::Started || self.nodes.iter().any(|(_, pod)| may_start(pod))
    }

    fn of_attempts(jobs: Attempts<'_>, pods: &[Pod], num_nodes: u32) -> Self {
        let newest = newest_pods(pods);
        let pod = |job: &Job| {
            newest
                .get(job.uid.as_str())
                .map(|pod| (*pod).clone())
                .filter(|pod| pod.is_of(job))
        };
        Self {
            num_nodes,
            nodes: jobs.current.iter().map(|job| (job.clone(), pod(job))).collect(),
            previous: jobs.previous().to_vec(),
            outdated: jobs.at_least_old(ATTEMPT_HISTORY_LIMIT).to_vec(),
            ..Self::default()
        }
    }
}

/// Whether a task is to be looked at whenever it changes: it is a gang, it may be retried, it waits for its group, it was
/// canceled, containers in one of its pods have outlived the task's own, or the end of a node has yet to be recorded.
pub(crate) fn is_reconciled(task: &Task) -> bool {
    let is_managed = |job: &Job| job.gang.is_some() || job.may_be_retried() || job.held.is_some();
    let has_leftover_containers = task.pods.iter().any(|pod| pod.has_leftover_containers);
    let is_managed = task.jobs.first().is_some_and(is_managed);
    let needs_attention = has_leftover_containers || is_managed || task.is_cancelled() || has_unrecorded_end(task);
    task.snapshot.is_some() && needs_attention
}

/// Whether the end of a node of the current attempt has yet to be recorded.
fn has_unrecorded_end(task: &Task) -> bool {
    let current = Attempts::of(&task.jobs).current;
    // Most tasks run, or have completed, and are spared the search for their pods.
    if current
        .iter()
        .all(|job| job.end.is_none() || job.recorded_end.is_some())
    {
        return false;
    }
    let newest = newest_pods(&task.pods);
    let mut ended = current.iter();
    ended.any(|job| unrecorded_end(job, newest.get(job.uid.as_str()).copied()).is_some())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::Arc;

    use clock::Clock;
    use task::Recovery;

    use super::{ManagedTask, is_reconciled};
    use crate::cache::{Cache, Gang, Job, JobEnd, Reason, TaskKey};

    fn cache() -> Cache {
        Cache::new("default".to_owned(), Clock::system(), is_reconciled)
    }

    fn take(cache: &Cache, busy: &HashSet<Arc<TaskKey>>, limit: usize) -> Vec<(Arc<TaskKey>, ManagedTask)> {
        cache.take_changed(busy, limit, ManagedTask::from_cache)
    }

    fn failed(rank: u32, attempt: u32) -> Job {
        Job {
            uid: format!("job-{rank}-{attempt}"),
            attempt,
            gang: Some(Gang::Start),
            recovery: Some(Box::new(Recovery::default())),
            end: Some(JobEnd::Failed(Reason::new("PodFailurePolicy", "it failed"))),
            ..Job::example(rank, 2)
        }
    }

    fn previous_of(jobs: Vec<Job>) -> Vec<usize> {
        let cache = cache();
        cache.apply_created(None, jobs);
        let tasks = take(&cache, &HashSet::new(), 10);
        tasks.iter().map(|(_, task)| task.previous.len()).collect()
    }

    #[test]
    fn an_attempt_that_is_half_made_is_managed_until_it_is_whole() {
        assert_eq!(previous_of(vec![failed(0, 1), failed(1, 1), failed(0, 2)]), [2]);
        let whole = vec![failed(0, 1), failed(1, 1), failed(0, 2), failed(1, 2)];
        assert_eq!(previous_of(whole), Vec::<usize>::new());
    }

    #[test]
    fn the_jobs_of_attempts_that_are_long_past_are_outdated() {
        let jobs = (1..=12).flat_map(|attempt| [failed(0, attempt), failed(1, attempt)]);
        let task = ManagedTask::of(None, jobs.collect(), &[], 2);
        let outdated: Vec<u32> = task.outdated.iter().map(|job| job.attempt).collect();
        assert_eq!(outdated, [1, 1, 2, 2]);
        assert_eq!((task.previous.len(), task.nodes.len()), (2, 2));
    }

    #[test]
    fn a_task_that_is_being_changed_is_not_given_to_another() {
        let cache = cache();
        let waits = Job {
            end: None,
            ..failed(0, 1)
        };
        cache.apply_created(None, vec![waits]);
        let busy = HashSet::from([Job::example(0, 2).key]);
        assert!(take(&cache, &busy, 10).is_empty());
        assert!(take(&cache, &HashSet::new(), 0).is_empty());
        assert_eq!(take(&cache, &HashSet::new(), 10).len(), 1);
        assert!(
            take(&cache, &HashSet::new(), 10).is_empty(),
            "nothing has changed since"
        );
    }
}
