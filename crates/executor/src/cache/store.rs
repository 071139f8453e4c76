//! The cache itself: queries, and the methods through which watches and this process change it.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use clock::Clock;
use jiff::Timestamp;
use task::UserName;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::attempts::Attempts;
use super::gang_task::GangTask;
use super::identity::TaskKey;
use super::job::Job;
use super::object::{FAILED_CREATE, Pod, TaskOwner, Volume};
use super::state::State;
use super::task::Task;
use super::turn::Stage;
use super::view::View;
use crate::labels::Owner;

/// The cache. Its lock is held only briefly, and never across an `await`.
pub struct Cache {
    state: RwLock<State>,
    gangs_changed: Notify,
}

/// The number of objects in the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Visible tasks of all users.
    pub tasks: usize,
    /// Pods of tasks.
    pub pods: usize,
    /// Volumes of all users.
    pub volumes: usize,
}

impl Cache {
    pub fn new(namespace: String, clock: Clock) -> Self {
        Self {
            state: RwLock::new(State::new(namespace, clock)),
            gangs_changed: Notify::new(),
        }
    }

    /// The visible task with this ID, if it belongs to the user.
    pub fn task(&self, user: &UserName, id: &str) -> Option<Arc<View>> {
        let state = self.read();
        // Of each kind of owner at most one task is listed, and a Python task only if none of ours has the ID.
        [Owner::of(user), Owner::of_python(user)].iter().find_map(|owner| {
            let mut claims = state
                .claiming(id)
                .filter(|(key, task)| key.owner == *owner && task.listed.is_some());
            claims.find_map(|(_, task)| task.view.clone())
        })
    }

    /// The visible tasks of one user, or of all users, oldest first.
    pub fn tasks(&self, user: Option<&UserName>) -> Vec<(String, Arc<View>)> {
        let state = self.read();
        let mut entries: Vec<&(Timestamp, Arc<TaskKey>)> = match user {
            Some(user) => [Owner::of(user), Owner::of_python(user)]
                .iter()
                .filter_map(|owner| state.by_owner.get(owner))
                .flatten()
                .collect(),
            None => state.by_owner.values().flatten().collect(),
        };
        entries.sort_unstable();
        entries
            .into_iter()
            .filter_map(|(_, key)| Some((key.id.to_string(), state.tasks.get(key)?.view.clone()?)))
            .collect()
    }

    /// The volumes of one user, or of all users, oldest first.
    pub fn volumes(&self, user: Option<&UserName>) -> Vec<Volume> {
        let owners = user.map(|user| [Owner::of(user), Owner::of_python(user)]);
        let state = self.read();
        let mut volumes: Vec<Volume> = state
            .volumes
            .values()
            .filter(|volume| owners.as_ref().is_none_or(|owners| owners.contains(&volume.owner)))
            .cloned()
            .collect();
        // Sort by the creation time from Kubernetes first: anybody can edit the time in the annotation.
        let age = |volume: &Volume| (volume.made_at, volume.created_at, volume.id.clone());
        volumes.sort_by_cached_key(age);
        volumes
    }

    /// The unfinished tasks that mount this PersistentVolumeClaim.
    pub fn tasks_using(&self, claim: &str) -> Vec<String> {
        let state = self.read();
        let uses = |task: &Task| task.jobs.iter().any(|job| job.claims.iter().any(|used| used == claim));
        let mut users: Vec<String> = state
            .tasks
            .iter()
            .filter(|(_, task)| task.view.as_ref().is_some_and(|view| !view.state.is_final()) && uses(task))
            .map(|(key, _)| key.id.to_string())
            .collect();
        users.sort_unstable();
        users
    }

    /// Whether any task has this ID, visible or not.
    pub fn knows(&self, id: &str) -> bool {
        self.read().claiming(id).next().is_some()
    }

    /// The visible task of the `Idempotency-Key` with this token: its ID and the fingerprint of its definition.
    pub fn submitted(&self, user: &UserName, token: &str) -> Option<(String, Option<String>)> {
        let owner = Owner::of(user);
        let state = self.read();
        let keys = state.by_token.get(token)?.iter().filter(|key| key.owner == owner);
        let tasks = keys.filter_map(|key| Some((key, state.tasks.get(key)?)));
        let visible = tasks.filter_map(|(key, task)| Some((task.view.as_ref()?.made_at, key, task.jobs.first()?)));
        let (_, key, job) = visible.min_by_key(|(made_at, key, _)| (*made_at, *key))?;
        Some((key.id.to_string(), job.fingerprint.clone()))
    }

    /// Returns a receiver that wakes when the task changes, and closes when it is removed from the cache.
    pub fn follow(&self, key: &TaskKey) -> Option<watch::Receiver<()>> {
        let mut state = self.write();
        let task = state.tasks.get_mut(key)?;
        Some(task.followers.get_or_insert_with(|| watch::Sender::new(())).subscribe())
    }

    /// The current view of a task, for any user.
    pub fn view(&self, key: &TaskKey) -> Option<Arc<View>> {
        self.read().tasks.get(key)?.view.clone()
    }

    /// Whether a pod has ended, or `None` if there is no such pod. A pod on a lost cluster node never reports its end,
    /// so the end of its Job counts as well.
    pub fn pod_ended(&self, key: &TaskKey, uid: &str) -> Option<bool> {
        let state = self.read();
        let task = state.tasks.get(key)?;
        let pod = task.pods.iter().find(|pod| pod.uid == uid)?;
        let is_lost = || pod.terminating && task.all_jobs().any(|job| job.uid == pod.job_uid && job.is_over());
        Some(matches!(pod.phase, super::Phase::Ended(_)) || is_lost())
    }

    /// The uncommitted owners whose deadline has passed at `now`.
    pub fn abandoned(&self, now: Timestamp) -> Vec<TaskOwner> {
        let overdue = |owner: &&TaskOwner| !owner.committed && owner.deadline.is_some_and(|deadline| deadline < now);
        let state = self.read();
        let owners = state.tasks.values().flat_map(Task::owners);
        owners
            .filter(overdue)
            .filter(|owner| !owner.terminating)
            .cloned()
            .collect()
    }

    /// The committed owners without any Job.
    pub fn emptied(&self) -> Vec<(Arc<TaskKey>, TaskOwner)> {
        let state = self.read();
        let owners = state
            .tasks
            .iter()
            .filter_map(|(key, task)| Some((key, task, task.owner()?)));
        owners
            .filter(|(_, task, owner)| owner.committed && !owner.terminating && task.all_jobs().next().is_none())
            .map(|(key, _, owner)| (Arc::clone(key), owner.clone()))
            .collect()
    }

    /// The deleted tasks that finalizers still hold, with their running pods.
    pub fn terminating(&self) -> Vec<(Arc<View>, Vec<Pod>)> {
        let state = self.read();
        let tasks = state.tasks.values().filter(|task| task.is_terminating());
        let runs = |pod: &&Pod| !matches!(pod.phase, super::Phase::Ended(_)) && !pod.terminating && !pod.is_told_to_end;
        tasks
            .filter_map(|task| Some((task.view.clone()?, task.pods.iter().filter(runs).cloned().collect())))
            .collect()
    }

    /// The pods of a task that have not ended.
    pub fn running_pods(&self, key: &TaskKey) -> Vec<Pod> {
        let state = self.read();
        let pods = state.tasks.get(key).map(|task| &task.pods).into_iter().flatten();
        pods.filter(|pod| !matches!(pod.phase, super::Phase::Ended(_)))
            .cloned()
            .collect()
    }

    /// Whether the cache contains anything of a task.
    pub fn has(&self, key: &TaskKey) -> bool {
        self.read().tasks.contains_key(key)
    }

    /// Waits until a task in the queue of [`Self::take_gangs`] has changed.
    pub async fn gangs_changed(&self) {
        self.gangs_changed.notified().await;
    }

    /// Takes up to `limit` tasks that changed since they were last taken and still need attention. Leaves those in
    /// `busy` in the queue, so that two workers never change the same task.
    pub fn take_gangs(&self, busy: &HashSet<Arc<TaskKey>>, limit: usize) -> Vec<(Arc<TaskKey>, GangTask)> {
        let mut state = self.write();
        let mut taken = Vec::new();
        while taken.len() < limit {
            let Some(key) = state.gangs.iter().find(|key| !busy.contains(*key)).cloned() else {
                break;
            };
            state.gangs.remove(&key);
            if let Some(gang) = state.tasks.get(&key).and_then(Task::gang) {
                taken.push((key, gang));
            }
        }
        taken
    }

    /// The gangs that wait at the start gate.
    pub fn waiting_gangs(&self) -> Vec<(Arc<TaskKey>, GangTask)> {
        let mut tasks = self.looked_after(|task| {
            let is_gang = task.jobs.iter().any(|job| job.gang.is_some());
            is_gang && task.is_pending()
        });
        let has_begun = |pod: &Option<Pod>| pod.as_ref().is_some_and(|pod| pod.may_begin);
        let is_ending = |job: &Job| job.provision_timed_out.is_some() || job.ended_because_of.is_some();
        tasks.retain(|(_, gang)| !gang.nodes.iter().any(|(job, pod)| has_begun(pod) || is_ending(job)));
        tasks
    }

    /// The pending tasks with a provisioning timeout, and those for which a server has recorded that it elapsed.
    pub fn unplaced(&self) -> Vec<(Arc<TaskKey>, GangTask)> {
        self.looked_after(|task| {
            let has_limit = task.jobs.last().is_some_and(|job| job.provision_timeout.is_some());
            let turn = task.owner().and_then(|owner| owner.turn);
            has_limit && (task.is_pending() || turn.is_some_and(|turn| turn.stage == Stage::Unplaced))
        })
    }

    /// The gangs with fewer Jobs than nodes.
    pub fn incomplete(&self) -> Vec<(Arc<TaskKey>, GangTask)> {
        self.looked_after(|task| {
            let is_gang = task.jobs.last().is_some_and(|job| job.gang.is_some());
            let nodes = task.view.as_ref().map_or(0, |view| view.num_nodes);
            is_gang && Attempts::of(&task.jobs).present.len() < nodes as usize
        })
    }

    /// The tasks with an owner whose time to live has elapsed. Kubernetes deletes the others.
    pub fn expired(&self, now: Timestamp) -> Vec<(Arc<View>, TaskOwner)> {
        let state = self.read();
        let tasks = state.tasks.values().filter(|task| task.is_expired(now));
        tasks
            .filter_map(|task| task.view.clone().zip(task.owner().cloned()))
            .collect()
    }

    fn looked_after(&self, is_meant: impl Fn(&Task) -> bool) -> Vec<(Arc<TaskKey>, GangTask)> {
        let state = self.read();
        let tasks = state.tasks.iter().filter(|(_, task)| is_meant(task));
        let is_refused = |job: &Job, pod: &Option<Pod>| {
            let warning = state.warnings.get(&job.uid);
            pod.is_none() && warning.is_some_and(|warning| warning.reason == FAILED_CREATE)
        };
        tasks
            .filter_map(|(key, task)| {
                let mut gang = task.gang()?;
                gang.is_refused = gang.nodes.iter().any(|(job, pod)| is_refused(job, pod));
                Some((Arc::clone(key), gang))
            })
            .collect()
    }

    /// Sets the error that keeps the server from moving a task on, which no Kubernetes object shows; `None` clears it.
    pub fn obstructed(&self, key: &Arc<TaskKey>, why: Option<String>) {
        self.change(|state| state.obstructed(key, why));
    }

    /// Queues a task for [`Self::take_gangs`].
    pub fn look_again(&self, key: Arc<TaskKey>) {
        self.write().gangs.insert(key);
        self.gangs_changed.notify_one();
    }

    /// Applies Jobs and pods that this process has changed, before any watch shows them.
    pub fn changed(&self, jobs: Vec<Job>, pods: Vec<Pod>) {
        self.change(|state| {
            for job in jobs {
                state.changed_job(job);
            }
            for pod in pods {
                state.changed_pod(&pod);
            }
        });
    }

    /// The number of objects in the cache.
    pub fn counts(&self) -> Counts {
        let state = self.read();
        Counts {
            tasks: state.by_owner.values().map(BTreeSet::len).sum(),
            pods: state.tasks.values().map(|task| task.pods.len()).sum(),
            volumes: state.volumes.len(),
        }
    }

    /// The time since the last watch event.
    pub fn age(&self) -> Option<Duration> {
        self.read().last_event.map(|time| time.elapsed())
    }

    /// Adds objects that this process has created, before any watch shows them.
    pub fn made(&self, owner: Option<TaskOwner>, jobs: Vec<Job>) {
        self.change(|state| {
            if let Some(owner) = owner {
                state.made_owner(owner);
            }
            for job in jobs {
                state.made_job(job);
            }
        });
    }

    /// Removes objects that this process has deleted, by uid, and updates the Jobs that finalizers hold.
    pub fn deleted(&self, gone: &[String], held: Vec<Job>) {
        self.change(|state| {
            for uid in gone {
                state.deleted(uid);
            }
            for job in held {
                state.put_job(job);
            }
        });
    }

    /// Adds a volume that this process has created.
    pub fn made_volume(&self, volume: Volume) {
        self.change(|state| state.made_volume(volume));
    }

    /// Removes a volume that this process has deleted, or marks it as terminating while a task uses it.
    pub fn deleted_volume(&self, uid: &str, in_use: bool) {
        self.change(|state| state.deleted_volume(uid, in_use));
    }

    /// Ends the initial phase, in which every change only fills the cache.
    pub fn complete(&self) {
        self.write().is_complete = true;
    }

    /// Applies watch events.
    pub(super) fn apply(&self, change: impl FnOnce(&mut State)) {
        self.change(|state| {
            state.last_event = Some(Instant::now());
            change(state);
        });
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.write();
        state.change(change);
        if !state.gangs.is_empty() {
            self.gangs_changed.notify_one();
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use clock::Clock;
    use task::Recovery;

    use super::{Cache, GangTask};
    use crate::cache::{Gang, Job, JobEnd, Reason};

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

    fn looked_after(jobs: Vec<Job>) -> Vec<usize> {
        let cache = Cache::new("default".to_owned(), Clock::system());
        cache.made(None, jobs);
        let tasks = cache.take_gangs(&HashSet::new(), 10);
        tasks.iter().map(|(_, task)| task.before.len()).collect()
    }

    #[test]
    fn an_attempt_that_is_half_made_is_looked_after_until_it_is_whole() {
        assert_eq!(looked_after(vec![failed(0, 1), failed(1, 1), failed(0, 2)]), [2]);
        let whole = vec![failed(0, 1), failed(1, 1), failed(0, 2), failed(1, 2)];
        assert_eq!(looked_after(whole), Vec::<usize>::new());
    }

    #[test]
    fn the_jobs_of_attempts_that_are_long_past_are_outdated() {
        let jobs = (1..=12).flat_map(|attempt| [failed(0, attempt), failed(1, attempt)]);
        let task = GangTask::of(None, jobs.collect(), &[], 2);
        let outdated: Vec<u32> = task.outdated.iter().map(|job| job.attempt).collect();
        assert_eq!(outdated, [1, 1, 2, 2]);
        assert_eq!((task.before.len(), task.nodes.len()), (2, 2));
    }

    #[test]
    fn a_task_that_is_being_changed_is_not_given_to_another() {
        let cache = Cache::new("default".to_owned(), Clock::system());
        let waits = Job {
            end: None,
            ..failed(0, 1)
        };
        cache.made(None, vec![waits]);
        let busy = HashSet::from([Job::example(0, 2).key]);
        assert!(cache.take_gangs(&busy, 10).is_empty());
        assert!(cache.take_gangs(&HashSet::new(), 0).is_empty());
        assert_eq!(cache.take_gangs(&HashSet::new(), 10).len(), 1);
        assert!(
            cache.take_gangs(&HashSet::new(), 10).is_empty(),
            "nothing has changed since"
        );
    }
}
