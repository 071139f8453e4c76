//! What the watches have seen and this process has done: questions to it, and changes of our own making.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use task::UserName;
use tokio::sync::{Notify, watch};

use super::object::{Job, Pod, TaskOwner, Volume};
use super::recovery::Restart;
use super::state::{State, Task};
use super::view::{Attempts, View, newest_pods};
use crate::labels::Owner;

/// How many attempts keep their Jobs, with the logs of their pods. A task that is preempted every hour must not fill a namespace.
pub const KEPT_ATTEMPTS: u32 = 10;

/// The cache. Locks are held for moments and never over an `await`.
pub struct Cache {
    state: RwLock<State>,
    gangs_changed: Notify,
}

/// A task that is looked after: its nodes start together, or it may be run again, or does not wait for ever. Its Jobs in rank
/// order, each with its newest pod.
#[derive(Debug, Clone, Default)]
pub struct GangTask {
    /// How many nodes it has; until all Jobs are made there are fewer.
    pub num_nodes: u32,
    /// Its nodes in the present attempt.
    pub nodes: Vec<(Job, Option<Pod>)>,
    /// The Jobs of the attempt before.
    pub before: Vec<Job>,
    /// The Jobs of attempts that are too long ago to be kept.
    pub outdated: Vec<Job>,
    /// That the present attempt has failed, and the next one can begin.
    pub restart: Option<Restart>,
}

/// How much the cache holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Visible tasks.
    pub tasks: usize,
    /// Pods.
    pub pods: usize,
    /// Volumes.
    pub volumes: usize,
}

impl GangTask {
    /// Puts together what Kubernetes has of a task, in any order.
    pub fn of(mut jobs: Vec<Job>, pods: &[Pod], num_nodes: u32) -> Self {
        jobs.sort_unstable_by(|left, right| left.place().cmp(&right.place()));
        Self::of_attempts(Attempts::of(&jobs), pods, num_nodes)
    }

    pub(super) fn of_attempts(jobs: Attempts<'_>, pods: &[Pod], num_nodes: u32) -> Self {
        let newest = newest_pods(pods);
        let pod = |job: &Job| newest.get(job.uid.as_str()).map(|pod| (*pod).clone());
        Self {
            num_nodes,
            nodes: jobs.present.iter().map(|job| (job.clone(), pod(job))).collect(),
            before: jobs.before().to_vec(),
            outdated: jobs.at_least(KEPT_ATTEMPTS).to_vec(),
            restart: None,
        }
    }
}

impl Cache {
    /// An empty cache of one namespace.
    #[must_use]
    pub fn new(namespace: String) -> Self {
        Self {
            state: RwLock::new(State::new(namespace)),
            gangs_changed: Notify::new(),
        }
    }

    /// A task of this user.
    #[must_use]
    pub fn task(&self, user: &UserName, id: &str) -> Option<Arc<View>> {
        self.view(id)
            .filter(|view| view.owner == Owner::of(user) || view.owner == Owner::of_python(user))
    }

    /// The tasks of a user, or of everybody, oldest first.
    #[must_use]
    pub fn tasks(&self, user: Option<&UserName>) -> Vec<(String, Arc<View>)> {
        let state = self.read();
        let mut keys: Vec<&(Timestamp, String)> = match user {
            Some(user) => [Owner::of(user), Owner::of_python(user)]
                .iter()
                .filter_map(|owner| state.by_owner.get(owner))
                .flatten()
                .collect(),
            None => state.by_owner.values().flatten().collect(),
        };
        keys.sort_unstable();
        keys.into_iter()
            .filter_map(|(_, id)| Some((id.clone(), state.tasks.get(id)?.view.clone()?)))
            .collect()
    }

    /// The volumes of a user, or of everybody, oldest first.
    #[must_use]
    pub fn volumes(&self, user: Option<&UserName>) -> Vec<Volume> {
        let owners = user.map(|user| [Owner::of(user), Owner::of_python(user)]);
        let state = self.read();
        let mut volumes: Vec<Volume> = state
            .volumes
            .values()
            .filter(|volume| owners.as_ref().is_none_or(|owners| owners.contains(&volume.owner)))
            .cloned()
            .collect();
        volumes.sort_unstable_by(|left, right| (left.created_at, &left.id).cmp(&(right.created_at, &right.id)));
        volumes
    }

    /// The tasks that have not ended and mount this claim.
    #[must_use]
    pub fn tasks_using(&self, claim: &str) -> Vec<String> {
        let state = self.read();
        let uses = |task: &Task| task.jobs.iter().any(|job| job.claims.iter().any(|used| used == claim));
        let mut users: Vec<String> = state
            .tasks
            .iter()
            .filter(|(_, task)| task.view.as_ref().is_some_and(|view| !view.state.is_final()) && uses(task))
            .map(|(id, _)| id.clone())
            .collect();
        users.sort_unstable();
        users
    }

    /// Whether anything has this task identifier.
    #[must_use]
    pub fn knows(&self, id: &str) -> bool {
        self.read().tasks.contains_key(id)
    }

    /// The task that a submission made, if it is visible: its identifier and the fingerprint of its definition.
    #[must_use]
    pub fn submitted(&self, user: &UserName, submission: &str) -> Option<(String, Option<String>)> {
        let owner = Owner::of(user);
        let state = self.read();
        state.by_owner.get(&owner)?.iter().find_map(|(_, id)| {
            let job = state.tasks.get(id)?.jobs.first()?;
            (job.submission.as_deref() == Some(submission)).then(|| (id.clone(), job.fingerprint.clone()))
        })
    }

    /// The task as it is now, and a receiver that wakes when it changes and closes when it is forgotten.
    #[must_use]
    pub fn follow(&self, id: &str) -> Option<watch::Receiver<()>> {
        let mut state = self.write();
        let task = state.tasks.get_mut(id)?;
        Some(task.followers.get_or_insert_with(|| watch::Sender::new(())).subscribe())
    }

    /// The task with this identifier, whoever asks.
    #[must_use]
    pub fn view(&self, id: &str) -> Option<Arc<View>> {
        self.read().tasks.get(id)?.view.clone()
    }

    /// Whether a pod is there and has not ended; `None` when there is no such pod.
    #[must_use]
    pub fn pod_ended(&self, id: &str, uid: &str) -> Option<bool> {
        let state = self.read();
        let pod = state.tasks.get(id)?.pods.iter().find(|pod| pod.uid == uid)?;
        Some(matches!(pod.phase, super::Phase::Ended(_)))
    }

    /// The owners of tasks whose creation did not end before `now`.
    #[must_use]
    pub fn abandoned(&self, now: Timestamp) -> Vec<TaskOwner> {
        let overdue = |owner: &&TaskOwner| !owner.committed && owner.deadline.is_none_or(|deadline| deadline < now);
        self.read()
            .tasks
            .values()
            .filter_map(|task| task.owner.as_ref())
            .filter(overdue)
            .cloned()
            .collect()
    }

    /// The owners of tasks all of whose Jobs are gone, by the tasks' identifiers.
    #[must_use]
    pub fn emptied(&self) -> Vec<(String, TaskOwner)> {
        let state = self.read();
        let empty = state.tasks.iter().filter(|(_, task)| task.jobs.is_empty());
        empty
            .filter_map(|(id, task)| Some((id.clone(), task.owner.clone()?)))
            .filter(|(_, owner)| owner.committed)
            .collect()
    }

    /// Waits until a task with several nodes has changed.
    pub async fn gangs_changed(&self) {
        self.gangs_changed.notified().await;
    }

    /// At most `limit` tasks with several nodes that have changed since this was last asked, and are not over. Those in `busy`
    /// are kept for later.
    pub fn take_gangs(&self, busy: &HashSet<String>, limit: usize) -> Vec<(String, GangTask)> {
        let mut state = self.write();
        let mut taken = Vec::new();
        while taken.len() < limit {
            let Some(id) = state.gangs.iter().find(|id| !busy.contains(*id)).cloned() else {
                break;
            };
            state.gangs.remove(&id);
            if let Some(gang) = state.tasks.get(&id).and_then(Task::gang) {
                taken.push((id, gang));
            }
        }
        taken
    }

    /// The tasks with several nodes none of which may begin yet.
    pub fn waiting_gangs(&self) -> Vec<(String, GangTask)> {
        let mut tasks = self.looked_after(|task| {
            let is_gang = task.jobs.iter().any(|job| job.gang.is_some());
            is_gang && task.is_pending()
        });
        let has_begun = |pod: &Option<Pod>| pod.as_ref().is_some_and(|pod| pod.may_begin);
        let is_ending = |job: &Job| job.provision_timed_out.is_some() || job.ended_because_of.is_some();
        tasks.retain(|(_, gang)| !gang.nodes.iter().any(|(job, pod)| has_begun(pod) || is_ending(job)));
        tasks
    }

    /// The tasks that wait, and do not want to wait for ever.
    pub fn unplaced(&self) -> Vec<(String, GangTask)> {
        self.looked_after(|task| {
            let has_limit = task.jobs.last().is_some_and(|job| job.provision_timeout.is_some());
            has_limit && task.is_pending()
        })
    }

    /// The tasks with several nodes that have fewer Jobs than nodes.
    pub fn incomplete(&self) -> Vec<(String, GangTask)> {
        self.looked_after(|task| {
            let is_gang = task.jobs.last().is_some_and(|job| job.gang.is_some());
            let nodes = task.view.as_ref().map_or(0, |view| view.num_nodes);
            is_gang && Attempts::of(&task.jobs).present.len() < nodes as usize
        })
    }

    /// The tasks of several Jobs, or with an owner, that ended so long ago that they shall go.
    pub fn expired(&self, now: Timestamp) -> Vec<(String, Arc<View>)> {
        let state = self.read();
        let tasks = state.tasks.iter().filter(|(_, task)| task.is_expired(now));
        tasks
            .filter_map(|(id, task)| Some((id.clone(), Arc::clone(task.view.as_ref()?))))
            .collect()
    }

    fn looked_after(&self, is_meant: impl Fn(&Task) -> bool) -> Vec<(String, GangTask)> {
        let state = self.read();
        let tasks = state.tasks.iter().filter(|(_, task)| is_meant(task));
        tasks
            .filter_map(|(id, task)| Some((id.clone(), task.gang()?)))
            .collect()
    }

    /// Has a task looked at again.
    pub fn look_again(&self, id: String) {
        self.write().gangs.insert(id);
        self.gangs_changed.notify_one();
    }

    /// What calls of this process have made of Jobs and pods, before any watch shows it.
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

    /// How much the cache holds.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let state = self.read();
        Counts {
            tasks: state.by_owner.values().map(BTreeSet::len).sum(),
            pods: state.tasks.values().map(|task| task.pods.len()).sum(),
            volumes: state.volumes.len(),
        }
    }

    /// How long ago the last event arrived.
    #[must_use]
    pub fn age(&self) -> Option<Duration> {
        self.read().last_event.map(|time| time.elapsed())
    }

    /// What this process has just made, before any watch shows it.
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

    /// A task that this process has just deleted.
    pub fn stopped(&self, id: &str) {
        self.change(|state| state.forget_task(id));
    }

    /// A volume that this process has just made.
    pub fn made_volume(&self, volume: Volume) {
        self.change(|state| state.made_volume(volume));
    }

    /// A volume that this process has just deleted: gone, or for as long as a task uses it on its way.
    pub fn deleted_volume(&self, uid: &str, in_use: bool) {
        self.change(|state| state.deleted_volume(uid, in_use));
    }

    /// All that was there at the start has been seen.
    pub fn complete(&self) {
        self.write().is_complete = true;
    }

    /// Applies what a watch has seen.
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
        let cache = Cache::new("default".to_owned());
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
        let task = GangTask::of(jobs.collect(), &[], 2);
        let outdated: Vec<u32> = task.outdated.iter().map(|job| job.attempt).collect();
        assert_eq!(outdated, [1, 1, 2, 2]);
        assert_eq!((task.before.len(), task.nodes.len()), (2, 2));
    }

    #[test]
    fn a_task_that_is_being_changed_is_not_given_to_another() {
        let cache = Cache::new("default".to_owned());
        let waits = Job {
            end: None,
            ..failed(0, 1)
        };
        cache.made(None, vec![waits]);
        let busy = HashSet::from(["abc".to_owned()]);
        assert!(cache.take_gangs(&busy, 10).is_empty());
        assert!(cache.take_gangs(&HashSet::new(), 0).is_empty());
        assert_eq!(cache.take_gangs(&HashSet::new(), 10).len(), 1);
        assert!(
            cache.take_gangs(&HashSet::new(), 10).is_empty(),
            "nothing has changed since"
        );
    }
}
