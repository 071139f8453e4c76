//! The cache itself: queries, and the methods through which watches and this process change it.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use clock::Clock;
use jiff::Timestamp;
use task::{Id, UserName};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::attempts::Attempts;
use super::change_log::{ChangeCursor, Changes};
use super::entry::CacheEntry;
use super::group_member::GroupKey;
use super::identity::TaskKey;
use super::job::Job;
use super::object::{Pod, TaskOwner, Volume};
use super::owner_files::OwnerFiles;
use super::snapshot::TaskSnapshot;
use super::state::CacheState;
use super::task::Task;
use super::task_changes::TaskChange;
use crate::user_key::UserKey;

/// The cache. Its lock is held only briefly, and never across an `await`.
pub(crate) struct Cache {
    state: RwLock<CacheState>,
    queue_changed: Notify,
    groups_changed: Notify,
    tasks_changed: Notify,
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

/// How far a task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TaskEnd {
    /// It is shown as ended, or is being deleted.
    pub has_ended: bool,
    /// No node runs anymore, or it is being deleted.
    pub have_nodes_ended: bool,
    /// The current attempt; 0 before there is one.
    pub attempt: u32,
}

impl Cache {
    /// An empty cache. When a task changes, it is queued for [`Self::take_changed`] if `is_queued`.
    pub(crate) fn new(namespace: String, clock: Clock, is_queued: fn(&Task) -> bool) -> Self {
        Self {
            state: RwLock::new(CacheState::new(namespace, clock, is_queued)),
            queue_changed: Notify::new(),
            groups_changed: Notify::new(),
            tasks_changed: Notify::new(),
        }
    }

    /// The visible task with this ID, if it belongs to the user.
    pub(crate) fn task(&self, user: &UserName, id: &str) -> Option<Arc<TaskSnapshot>> {
        let state = self.read();
        // Of each kind of owner at most one task is listed, and a Python task only if none of ours has the ID.
        [UserKey::of(user), UserKey::of_python(user)].iter().find_map(|user| {
            let mut claims = state
                .tasks_with_id(id)
                .filter(|(key, task)| key.user == *user && task.listed.is_some());
            claims.find_map(|(_, task)| task.snapshot.clone())
        })
    }

    /// The visible tasks of one user, or of all users, oldest first.
    pub(crate) fn tasks(&self, user: Option<&UserName>) -> Vec<(String, Arc<TaskSnapshot>)> {
        let state = self.read();
        let mut entries: Vec<&(Timestamp, Arc<TaskKey>)> = match user {
            Some(user) => [UserKey::of(user), UserKey::of_python(user)]
                .iter()
                .filter_map(|user| state.by_user.get(user))
                .flatten()
                .collect(),
            None => state.by_user.values().flatten().collect(),
        };
        entries.sort_unstable();
        entries
            .into_iter()
            .filter_map(|(_, key)| Some((key.id.to_string(), state.tasks.get(key)?.snapshot.clone()?)))
            .collect()
    }

    /// The visible tasks of a group of this user, in the order of the group.
    pub(crate) fn group(&self, user: &UserName, id: &str) -> Vec<(String, Arc<TaskSnapshot>)> {
        let Some(id) = Id::new(id) else { return Vec::new() };
        let user = UserKey::of(user);
        let first = GroupKey {
            id,
            user,
            token: Box::default(),
        };
        let is_same = |group: &GroupKey| group.id == first.id && group.user == first.user;
        let groups: Vec<GroupKey> = {
            let state = self.read();
            let groups = state.by_group.range(&first..).map(|(group, _)| group);
            groups.take_while(|group| is_same(group)).cloned().collect()
        };
        let tasks = |group: &GroupKey| {
            self.select_group(group, |key, task| {
                let index = task.owner()?.group.as_ref()?.index;
                task.listed?;
                Some((index, key.id.to_string(), task.snapshot.clone()?))
            })
        };
        // Another group with the ID is forged, and has been created later.
        let age = |tasks: &Vec<(u32, String, Arc<TaskSnapshot>)>| {
            let created = tasks.iter().map(|(_, _, snapshot)| snapshot.creation_timestamp);
            created.min().unwrap_or(Timestamp::MAX)
        };
        let mut tasks = groups.iter().map(tasks).min_by_key(age).unwrap_or_default();
        tasks.sort_by_key(|(index, _, _)| *index);
        tasks.into_iter().map(|(_, id, snapshot)| (id, snapshot)).collect()
    }

    /// The volumes of one user, or of all users, oldest first.
    pub(crate) fn volumes(&self, user: Option<&UserName>) -> Vec<Volume> {
        let users = user.map(|user| [UserKey::of(user), UserKey::of_python(user)]);
        let state = self.read();
        let mut volumes: Vec<Volume> = state
            .volumes
            .values()
            .filter(|volume| users.as_ref().is_none_or(|users| users.contains(&volume.user)))
            .cloned()
            .collect();
        // Sort by the creation time from Kubernetes first: anybody can edit the time in the annotation.
        let age = |volume: &Volume| (volume.creation_timestamp, volume.created_at, volume.id.clone());
        volumes.sort_by_cached_key(age);
        volumes
    }

    /// Whether any task has this ID, visible or not.
    pub(crate) fn contains_id(&self, id: &str) -> bool {
        self.read().tasks_with_id(id).next().is_some()
    }

    /// The visible task of the `Idempotency-Key` with this token: its ID and the fingerprint of its definition.
    pub(crate) fn find_submitted(&self, user: &UserName, token: &str) -> Option<(String, Option<String>)> {
        let user = UserKey::of(user);
        let state = self.read();
        let keys = state.by_token.get(token)?.iter().filter(|key| key.user == user);
        let tasks = keys.filter_map(|key| Some((key, state.tasks.get(key)?)));
        let visible =
            tasks.filter_map(|(key, task)| Some((task.snapshot.as_ref()?.creation_timestamp, key, task.jobs.first()?)));
        let (_, key, job) = visible.min_by_key(|(creation_timestamp, key, _)| (*creation_timestamp, *key))?;
        Some((key.id.to_string(), job.fingerprint.clone()))
    }

    /// Returns a receiver that wakes when the task changes, and closes when it is removed from the cache.
    pub(crate) fn subscribe(&self, key: &TaskKey) -> Option<watch::Receiver<()>> {
        let mut state = self.write();
        let task = state.tasks.get_mut(key)?;
        Some(
            task.subscribers
                .get_or_insert_with(|| watch::Sender::new(()))
                .subscribe(),
        )
    }

    /// Frees what [`Self::subscribe`] has made for a task that perhaps never changes again, unless somebody else waits.
    pub(crate) fn end_subscription(&self, key: &TaskKey) {
        if let Some(task) = self.write().tasks.get_mut(key) {
            task.subscribers.take_if(|subscribers| subscribers.is_closed());
        }
    }

    /// The current snapshot of a task, for any user.
    pub(crate) fn snapshot(&self, key: &TaskKey) -> Option<Arc<TaskSnapshot>> {
        self.read().tasks.get(key)?.snapshot.clone()
    }

    /// Whether a pod has ended, or `None` if there is no such pod. A pod on a lost cluster node never reports its end,
    /// so the end of its Job counts as well.
    pub(crate) fn pod_ended(&self, key: &TaskKey, uid: &str) -> Option<bool> {
        let state = self.read();
        let task = state.tasks.get(key)?;
        let pod = task.pods.iter().find(|pod| pod.uid == uid)?;
        let is_lost = || pod.terminating && task.all_jobs().any(|job| job.uid == pod.job_uid && job.is_over());
        Some(matches!(pod.phase, super::Phase::Ended(_)) || is_lost())
    }

    /// The pods of a task that have not ended.
    pub(crate) fn running_pods(&self, key: &TaskKey) -> Vec<Pod> {
        let state = self.read();
        let pods = state.tasks.get(key).map(|task| &task.pods).into_iter().flatten();
        pods.filter(|pod| !matches!(pod.phase, super::Phase::Ended(_)))
            .cloned()
            .collect()
    }

    /// The files that the nodes of the tasks with this ID may fetch, and how far each task is.
    pub(crate) fn files_of(&self, id: &str) -> Vec<(Arc<OwnerFiles>, TaskEnd)> {
        let state = self.read();
        let of_task = |task: &Task| {
            let owners = task.owners().iter();
            let files = owners.filter_map(|owner| {
                let end = TaskEnd {
                    has_ended: task.has_ended() || owner.terminating,
                    have_nodes_ended: task.have_nodes_ended() || owner.terminating,
                    attempt: Attempts::of(&task.jobs).number(),
                };
                Some((owner.files.clone()?, end))
            });
            files.collect::<Vec<_>>()
        };
        state.tasks_with_id(id).flat_map(|(_, task)| of_task(task)).collect()
    }

    /// Whether a task has ended for good, or is being deleted.
    pub(crate) fn has_ended(&self, key: &TaskKey) -> bool {
        self.find(key, Task::has_ended).unwrap_or(false)
    }

    /// Whether the cache contains anything of a task.
    pub(crate) fn contains(&self, key: &TaskKey) -> bool {
        self.read().tasks.contains_key(key)
    }

    /// What `pick` returns for the objects of a task.
    pub(crate) fn find<T>(&self, key: &TaskKey, pick: impl FnOnce(&Task) -> T) -> Option<T> {
        self.read().tasks.get(key).map(pick)
    }

    /// What `pick` finds in the tasks of the cache. The lock is held meanwhile, so `pick` must be quick.
    pub(crate) fn select<I: IntoIterator>(&self, pick: impl Fn(CacheEntry<'_>) -> I) -> Vec<I::Item> {
        let state = self.read();
        let entries = state.tasks.iter().map(|(key, task)| CacheEntry {
            key,
            task,
            state: &state,
        });
        entries.flat_map(pick).collect()
    }

    /// Waits until a task in the queue of [`Self::take_changed`] has changed.
    pub(crate) async fn queue_changed(&self) {
        self.queue_changed.notified().await;
    }

    /// Takes up to `limit` tasks from the queue for which `pick` returns something, and drops those for which it
    /// doesn't. Leaves those in `busy` in the queue, so that two workers never change the same task.
    pub(crate) fn take_changed<T>(
        &self,
        busy: &HashSet<Arc<TaskKey>>,
        limit: usize,
        pick: impl Fn(&Task) -> Option<T>,
    ) -> Vec<(Arc<TaskKey>, T)> {
        let mut state = self.write();
        let mut taken = Vec::new();
        while taken.len() < limit {
            let Some(key) = state.queue.iter().find(|key| !busy.contains(*key)).cloned() else {
                break;
            };
            state.queue.remove(&key);
            if let Some(picked) = state.tasks.get(&key).and_then(&pick) {
                taken.push((key, picked));
            }
        }
        taken
    }

    /// Waits until a group of [`Self::take_changed_groups`] has changed.
    pub(crate) async fn groups_changed(&self) {
        self.groups_changed.notified().await;
    }

    /// Takes up to `limit` groups that changed. Leaves those in `busy`.
    pub(crate) fn take_changed_groups(&self, busy: &HashSet<GroupKey>, limit: usize) -> Vec<GroupKey> {
        let mut state = self.write();
        let changed = state.changed_groups.iter().filter(|group| !busy.contains(*group));
        let taken: Vec<GroupKey> = changed.take(limit).cloned().collect();
        for group in &taken {
            state.changed_groups.remove(group);
        }
        taken
    }

    /// Wakes the worker of [`Self::groups_changed`] if groups are left.
    pub(crate) fn notify_groups(&self) {
        if !self.read().changed_groups.is_empty() {
            self.groups_changed.notify_one();
        }
    }

    /// Keeps changes for [`Self::take_task_changes`] from now on.
    pub(crate) fn enable_task_changes(&self) {
        self.write().task_changes.enable();
    }

    /// Waits for changes of [`Self::take_task_changes`], and takes them.
    pub(crate) async fn take_task_changes(&self) -> Vec<TaskChange> {
        loop {
            let changes = self.write().task_changes.take();
            if !changes.is_empty() {
                return changes;
            }
            // A change between the check and the wait leaves a permit.
            self.tasks_changed.notified().await;
        }
    }

    /// Wakes with each change of any listed task.
    pub(crate) fn subscribe_to_changes(&self) -> watch::Receiver<u64> {
        self.read().change_log.subscribe()
    }

    /// What has changed in the tasks of one user, or of all users, since a cursor.
    pub(crate) fn changes_since(&self, user: Option<&UserName>, since: Option<ChangeCursor>) -> Changes {
        let state = self.read();
        let snapshot = |key: &TaskKey| state.tasks.get(key)?.snapshot.clone();
        state.change_log.since(user, since, snapshot)
    }

    /// Marks a group as changed.
    pub(crate) fn requeue_group(&self, group: GroupKey) {
        self.write().changed_groups.insert(group);
        self.groups_changed.notify_one();
    }

    /// What `pick` finds in the committed tasks of a group.
    pub(crate) fn select_group<T>(&self, group: &GroupKey, pick: impl Fn(&Arc<TaskKey>, &Task) -> Option<T>) -> Vec<T> {
        let state = self.read();
        let tasks = state.by_group.get(group).into_iter().flatten();
        let tasks = tasks.filter_map(|key| state.tasks.get_key_value(key));
        tasks.filter_map(|(key, task)| pick(key, task)).collect()
    }

    /// Sets the error that keeps the server from moving a task on, which no Kubernetes object shows; `None` clears it.
    pub(crate) fn set_controller_error(&self, key: &Arc<TaskKey>, why: Option<String>) {
        self.change(|state| state.set_controller_error(key, why));
    }

    /// Queues a task for [`Self::take_changed`].
    pub(crate) fn requeue(&self, key: Arc<TaskKey>) {
        self.write().queue.insert(key);
        self.queue_changed.notify_one();
    }

    /// Applies Jobs and pods that this process has changed, before any watch shows them.
    pub(crate) fn apply_patched(&self, jobs: Vec<Job>, pods: Vec<Pod>) {
        self.change(|state| {
            for job in jobs {
                state.merge_patched_job(job);
            }
            for pod in pods {
                state.merge_patched_pod(&pod);
            }
        });
    }

    /// The number of objects in the cache.
    pub(crate) fn counts(&self) -> Counts {
        let state = self.read();
        Counts {
            tasks: state.by_user.values().map(BTreeSet::len).sum(),
            pods: state.tasks.values().map(|task| task.pods.len()).sum(),
            volumes: state.volumes.len(),
        }
    }

    /// The time since the last watch event.
    pub(crate) fn age(&self) -> Option<Duration> {
        self.read().last_event.map(|time| time.elapsed())
    }

    /// Adds objects that this process has created, before any watch shows them.
    pub(crate) fn apply_created(&self, owner: Option<TaskOwner>, jobs: Vec<Job>) {
        self.change(|state| {
            if let Some(owner) = owner {
                state.insert_created_owner(owner);
            }
            for job in jobs {
                state.insert_created_job(job);
            }
        });
    }

    /// Removes objects that this process has deleted, by uid, and updates the Jobs that finalizers hold.
    pub(crate) fn apply_deleted(&self, gone: &[String], held: Vec<Job>) {
        self.change(|state| {
            for uid in gone {
                state.remove_deleted(uid);
            }
            for job in held {
                state.apply_job(job);
            }
        });
    }

    /// Adds a volume that this process has created.
    pub(crate) fn insert_created_volume(&self, volume: Volume) {
        self.change(|state| state.insert_created_volume(volume));
    }

    /// Removes a volume that this process has deleted, or marks it as terminating while a task uses it.
    pub(crate) fn remove_deleted_volume(&self, uid: &str, is_held: bool) {
        self.change(|state| state.remove_deleted_volume(uid, is_held));
    }

    /// Ends the initial phase, in which every change only fills the cache.
    pub(crate) fn finish_initial_sync(&self) {
        self.write().is_synced = true;
    }

    /// Applies watch events.
    pub(super) fn apply(&self, change: impl FnOnce(&mut CacheState)) {
        self.change(|state| {
            state.last_event = Some(Instant::now());
            change(state);
        });
    }

    fn change(&self, change: impl FnOnce(&mut CacheState)) {
        let mut state = self.write();
        state.change(change);
        if !state.queue.is_empty() {
            self.queue_changed.notify_one();
        }
        if !state.changed_groups.is_empty() {
            self.groups_changed.notify_one();
        }
        if !state.task_changes.is_empty() {
            self.tasks_changed.notify_one();
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, CacheState> {
        self.state.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, CacheState> {
        self.state.write().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use clock::Clock;

    use super::{Cache, Job, Pod};
    use crate::cache::Phase;

    #[test]
    fn a_subscription_that_has_ended_leaves_nothing_behind() {
        let cache = Cache::new("default".to_owned(), Clock::system(), |_| false);
        let job = Job::example(0, 1);
        let key = job.key.clone();
        cache.set_example(job, Pod::example(0, Phase::Running { since: None }));
        let is_kept = || cache.read().tasks[&key].subscribers.is_some();
        let (first, second) = (cache.subscribe(&key), cache.subscribe(&key));
        drop(first);
        cache.end_subscription(&key);
        assert!(is_kept(), "somebody else waits");
        drop(second);
        cache.end_subscription(&key);
        assert!(!is_kept());
    }
}
