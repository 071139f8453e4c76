//! The content of the cache. Every change ends by aggregating the tasks it touched, so that snapshots are never stale.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use clock::Clock;
use jiff::Timestamp;
use tokio::time::Instant;

use super::change_log::ChangeLog;
use super::group_member::GroupKey;
use super::identity::TaskKey;
use super::job::Job;
use super::listing::choose_listed;
use super::load_balancers::LoadBalancers;
use super::object::{Pod, TaskOwner, Volume, Warning};
use super::render::{self, RenderContext};
use super::task::Task;
use super::task_changes::TaskChanges;
use super::tombstones::{Removal, Tombstones};
use super::warnings::Warnings;
use crate::tokens;
use crate::user_key::UserKey;

pub(super) struct CacheState {
    namespace: String,
    pub clock: Clock,
    /// Whether to queue a task when it changes.
    is_queued: fn(&Task) -> bool,
    pub tasks: BTreeMap<Arc<TaskKey>, Task>,
    /// The visible tasks of each user, oldest first.
    pub by_user: HashMap<UserKey, BTreeSet<(Timestamp, Arc<TaskKey>)>>,
    /// The tasks submitted with an `Idempotency-Key`, by its token.
    pub by_token: HashMap<Box<str>, BTreeSet<Arc<TaskKey>>>,
    pub volumes: HashMap<String, Volume>,
    pub last_event: Option<Instant>,
    /// Whether the first lists are complete. Before that, an event only fills the cache, and must not count as a change
    /// of its task.
    pub is_synced: bool,
    /// The task of each object, by the object's uid.
    task_keys: HashMap<String, Arc<TaskKey>>,
    /// Pods that arrived before their Job, by the Job's uid. The watches are independent, so either may come first.
    jobless_pods: HashMap<String, Vec<Pod>>,
    pub warnings: Warnings,
    pub load_balancers: LoadBalancers,
    tombstones: Tombstones,
    /// When this process created objects that no watch has shown yet, by uid.
    unconfirmed: HashMap<String, Instant>,
    /// Tasks to aggregate at the end of the current change.
    dirty: HashSet<Arc<TaskKey>>,
    /// Tasks that changed since a controller last took them.
    pub queue: BTreeSet<Arc<TaskKey>>,
    /// The committed tasks of each group, whether their Jobs are known or not.
    pub by_group: BTreeMap<GroupKey, BTreeSet<Arc<TaskKey>>>,
    /// Groups with a task that changed since a controller last took them.
    pub changed_groups: BTreeSet<GroupKey>,
    /// Tasks that became visible or went away.
    pub task_changes: TaskChanges,
    /// What clients are told.
    pub change_log: ChangeLog,
    /// Errors of the server that keep tasks from moving on.
    controller_errors: HashMap<Arc<TaskKey>, String>,
}

/// The result of a list of one kind, for removing everything that it does not contain.
pub(super) struct ListedUids<'a> {
    pub uids: &'a HashSet<String>,
    /// Objects created after this time may be missing in the list.
    pub started: Instant,
}

impl CacheState {
    pub(crate) fn new(namespace: String, clock: Clock, is_queued: fn(&Task) -> bool) -> Self {
        Self {
            namespace,
            clock,
            is_queued,
            tasks: BTreeMap::new(),
            by_user: HashMap::new(),
            by_token: HashMap::new(),
            volumes: HashMap::new(),
            last_event: None,
            is_synced: false,
            task_keys: HashMap::new(),
            jobless_pods: HashMap::new(),
            warnings: Warnings::default(),
            load_balancers: LoadBalancers::default(),
            tombstones: Tombstones::default(),
            unconfirmed: HashMap::new(),
            dirty: HashSet::new(),
            queue: BTreeSet::new(),
            by_group: BTreeMap::new(),
            changed_groups: BTreeSet::new(),
            task_changes: TaskChanges::default(),
            change_log: ChangeLog::default(),
            controller_errors: HashMap::new(),
        }
    }

    /// Makes a change, then aggregates each task that it touched, once.
    pub(crate) fn change(&mut self, change: impl FnOnce(&mut Self)) {
        change(self);
        for key in std::mem::take(&mut self.dirty) {
            self.refresh(&key);
        }
    }

    /// Changes load balancers; `change` returns the tasks that this changes.
    pub(crate) fn change_load_balancers(&mut self, change: impl FnOnce(&mut LoadBalancers) -> Vec<Arc<TaskKey>>) {
        self.dirty.extend(change(&mut self.load_balancers));
    }

    /// All tasks with this ID, of any user.
    pub(crate) fn tasks_with_id<'a>(&'a self, id: &'a str) -> impl Iterator<Item = (&'a Arc<TaskKey>, &'a Task)> {
        let first = TaskKey {
            id: id.into(),
            user: UserKey::first(),
            submission: None,
        };
        self.tasks
            .range::<TaskKey, _>(&first..)
            .take_while(move |(key, _)| *key.id == *id)
    }

    pub(crate) fn apply_job(&mut self, job: Job) {
        if let Some(made) = self.unconfirmed.remove(&job.uid) {
            metrics::histogram!("k8s_cli_watch_latency_seconds").record(made.elapsed().as_secs_f64());
        }
        if !self.tombstones.is_stale(&job.uid) {
            self.insert_job(job);
        }
    }

    fn insert_job(&mut self, mut job: Job) {
        let key = self.assign_task(&job.uid, &job.key);
        job.key = Arc::clone(&key);
        if let Some(token) = key.submission.as_deref().filter(|token| tokens::is_key_token(token)) {
            self.by_token.entry(token.into()).or_default().insert(Arc::clone(&key));
        }
        let pods = self.jobless_pods.remove(&job.uid).unwrap_or_default();
        self.task_mut(&key).apply_job(job);
        for pod in pods {
            self.apply_pod(pod);
        }
    }

    pub(crate) fn apply_owner(&mut self, mut owner: TaskOwner) {
        self.unconfirmed.remove(&owner.uid);
        if !self.tombstones.is_stale(&owner.uid) {
            owner.key = self.assign_task(&owner.uid, &owner.key);
            let key = Arc::clone(&owner.key);
            self.task_mut(&key).apply_owner(owner);
        }
    }

    pub(crate) fn apply_pod(&mut self, pod: Pod) {
        // The last event of a pod may arrive after its Job is gone; then the pod's own entry names the task.
        let Some(key) = self
            .task_keys
            .get(&pod.uid)
            .or_else(|| self.task_keys.get(&pod.job_uid))
            .cloned()
        else {
            let pods = self.jobless_pods.entry(pod.job_uid.clone()).or_default();
            pods.retain(|known| known.uid != pod.uid);
            pods.push(pod);
            return;
        };
        let job = self
            .tasks
            .get(&key)
            .and_then(|task| task.all_jobs().find(|job| job.uid == pod.job_uid));
        let is_known = self.task_keys.contains_key(&pod.uid);
        if job.map_or(is_known, |job| pod.is_of(job)) {
            self.assign_task(&pod.uid, &key);
            self.task_mut(&key).apply_pod(pod);
        }
    }

    pub(crate) fn apply_volume(&mut self, volume: Volume) {
        self.unconfirmed.remove(&volume.uid);
        if !self.tombstones.is_stale(&volume.uid) {
            self.volumes.insert(volume.uid.clone(), volume);
        }
    }

    pub(crate) fn apply_warning(&mut self, warning: Warning) {
        match self.task_keys.get(&warning.about) {
            Some(key) => {
                self.dirty.insert(Arc::clone(key));
                self.warnings.put(warning);
            }
            None => self.warnings.put_pending(warning),
        }
    }

    /// Removes a Job or an owner that a watch no longer shows. Its pods stay, because their logs may still be followed.
    pub(crate) fn remove_unlisted(&mut self, uid: &str) {
        self.remove_object(uid);
        self.add_tombstone(uid, Removal::Unlisted);
    }

    /// Removes a Job or an owner that Kubernetes has confirmed as deleted.
    pub(crate) fn remove_deleted(&mut self, uid: &str) {
        self.remove_object(uid);
        self.add_tombstone(uid, Removal::Deleted);
    }

    pub(crate) fn remove_pod(&mut self, uid: &str) {
        self.warnings.remove(uid);
        if let Some(key) = self.task_keys.remove(uid) {
            self.task_mut(&key).pods.retain(|known| known.uid != uid);
        } else {
            self.jobless_pods.retain(|_, pods| {
                pods.retain(|pod| pod.uid != uid);
                !pods.is_empty()
            });
        }
    }

    /// Removes a volume that a watch no longer shows.
    pub(crate) fn remove_volume(&mut self, uid: &str) {
        self.volumes.remove(uid);
        self.add_tombstone(uid, Removal::Unlisted);
    }

    pub(crate) fn retain_jobs(&mut self, listed: &ListedUids) {
        let jobs = self.tasks.values().flat_map(Task::all_jobs);
        for uid in self.not_listed(listed, jobs.map(|job| &job.uid)) {
            self.remove_object(&uid);
        }
    }

    pub(crate) fn retain_owners(&mut self, listed: &ListedUids) {
        let owners = self.tasks.values().flat_map(Task::owners);
        for uid in self.not_listed(listed, owners.map(|owner| &owner.uid)) {
            self.remove_object(&uid);
        }
    }

    pub(crate) fn retain_pods(&mut self, listed: &ListedUids) {
        let pods = self.tasks.values().flat_map(|task| &task.pods);
        let jobless_pods = self.jobless_pods.values().flatten();
        for uid in self.not_listed(listed, pods.chain(jobless_pods).map(|pod| &pod.uid)) {
            self.remove_pod(&uid);
        }
    }

    pub(crate) fn retain_volumes(&mut self, listed: &ListedUids) {
        for uid in self.not_listed(listed, self.volumes.keys()) {
            self.volumes.remove(&uid);
        }
    }

    /// Adds a Job from the response to a create. If the watch was faster, it has a newer version, or has already seen
    /// the deletion, and neither may be overwritten.
    pub(crate) fn insert_created_job(&mut self, job: Job) {
        if self.task_keys.contains_key(&job.uid) || self.tombstones.contains(&job.uid) {
            return;
        }
        self.unconfirmed.insert(job.uid.clone(), Instant::now());
        self.insert_job(job);
    }

    /// Adds an owner from the response to a create or a patch; see [`Self::insert_created_job`]. Owners are versioned,
    /// so the newer one is kept.
    pub(crate) fn insert_created_owner(&mut self, mut owner: TaskOwner) {
        if !self.tombstones.contains(&owner.uid) {
            self.unconfirmed.entry(owner.uid.clone()).or_insert_with(Instant::now);
            owner.key = self.assign_task(&owner.uid, &owner.key);
            let key = Arc::clone(&owner.key);
            self.task_mut(&key).apply_owner(owner);
        }
    }

    pub(crate) fn insert_created_volume(&mut self, volume: Volume) {
        if !self.volumes.contains_key(&volume.uid) && !self.tombstones.contains(&volume.uid) {
            self.unconfirmed.insert(volume.uid.clone(), Instant::now());
            self.volumes.insert(volume.uid.clone(), volume);
        }
    }

    /// Takes from the response to a patch only what never changes back. The rest may be older than what a watch has
    /// shown.
    pub(crate) fn merge_patched_job(&mut self, job: Job) {
        let Some(key) = self.task_keys.get(&job.uid).cloned() else {
            return;
        };
        if let Some(known) = self.task_mut(&key).job_mut(&job.uid) {
            known.ended_because_of = job.ended_because_of.or(known.ended_because_of);
            known.provision_timed_out = job.provision_timed_out.or(known.provision_timed_out.take());
            known.exit_code = job.exit_code.or(known.exit_code);
            known.recorded_end = job.recorded_end.or(known.recorded_end.take());
            known.cancelled |= job.cancelled;
            known.facts = job.facts.or(known.facts.take());
            known.held = known.held.take().filter(|_| job.held.is_some());
        }
    }

    /// The same as [`Self::merge_patched_job`] for a pod.
    pub(crate) fn merge_patched_pod(&mut self, pod: &Pod) {
        let Some(key) = self.task_keys.get(&pod.uid).cloned() else {
            return;
        };
        let pods = &mut self.task_mut(&key).pods;
        if let Some(known) = pods.iter_mut().find(|known| known.uid == pod.uid) {
            known.gate = known.gate.max(pod.gate);
            known.ended_because_of = pod.ended_because_of.or(known.ended_because_of);
        }
    }

    /// Sets or clears the error that keeps a task from moving on. Only the status text changes, so the task is not queued again; otherwise
    /// every failure would trigger the next try immediately.
    pub(crate) fn set_controller_error(&mut self, key: &Arc<TaskKey>, why: Option<String>) {
        let is_there = self.tasks.contains_key(key);
        let before = match why.clone().filter(|_| is_there) {
            Some(why) => self.controller_errors.insert(Arc::clone(key), why),
            None => self.controller_errors.remove(key),
        };
        if before != why && is_there {
            let is_waiting = self.queue.contains(key);
            self.refresh(key);
            if !is_waiting {
                self.queue.remove(key);
            }
        }
    }

    pub(crate) fn remove_deleted_volume(&mut self, uid: &str, is_held: bool) {
        if !is_held {
            self.volumes.remove(uid);
            self.add_tombstone(uid, Removal::Deleted);
        } else if let Some(volume) = self.volumes.get_mut(uid) {
            volume.terminating = true;
        }
    }

    /// Assigns an object to a task, and removes it from its previous task: somebody may have edited its labels.
    fn assign_task(&mut self, uid: &str, key: &Arc<TaskKey>) -> Arc<TaskKey> {
        let key = self.tasks.get_key_value(key).map_or(key, |(known, _)| known).clone();
        match self.task_keys.insert(uid.to_owned(), Arc::clone(&key)) {
            Some(before) if before != key => {
                self.task_mut(&before).remove(uid);
            }
            Some(_) => {}
            None => self.warnings.attach(uid),
        }
        key
    }

    /// The task with this key, marked as touched.
    fn task_mut(&mut self, key: &Arc<TaskKey>) -> &mut Task {
        self.dirty.insert(Arc::clone(key));
        self.tasks.entry(Arc::clone(key)).or_default()
    }

    fn remove_object(&mut self, uid: &str) {
        self.warnings.remove(uid);
        if let Some(key) = self.task_keys.remove(uid) {
            self.task_mut(&key).remove(uid);
        }
    }

    fn add_tombstone(&mut self, uid: &str, how: Removal) {
        self.unconfirmed.remove(uid);
        self.tombstones.add(uid, how);
    }

    /// The uids in `known` that a list no longer contains. Objects that this process created after the list started
    /// don't count.
    fn not_listed<'a>(&self, listed: &ListedUids, known: impl Iterator<Item = &'a String>) -> Vec<String> {
        let is_new = |uid: &String| self.unconfirmed.get(uid).is_some_and(|made| *made >= listed.started);
        known
            .filter(|uid| !listed.uids.contains(*uid) && !is_new(uid))
            .cloned()
            .collect()
    }

    /// Updates everything that derives from the objects of a task: its snapshot, its place in the controllers' queue and
    /// in its user's list, and its subscribers. The new snapshot is stored before the subscribers wake, and the write
    /// lock is held throughout, so a subscriber never reads an older state than the one it was woken for. The previous
    /// snapshot is taken out first: if the JSON is the same, the new one keeps the old `updated_at`, and a repeated list
    /// does not look like a change. An empty task is removed last, because [`Self::update_listing`] still needs its
    /// entry to take it off the list.
    fn refresh(&mut self, key: &Arc<TaskKey>) {
        let Some(task) = self.tasks.get_mut(key) else { return };
        let before = task.snapshot.take();
        let context = RenderContext {
            warnings: &self.warnings,
            load_balancers: &self.load_balancers,
            namespace: &self.namespace,
            now: self.clock.now(),
            previous: before.as_ref().filter(|_| self.is_synced),
            controller_error: self.controller_errors.get(key).map(String::as_str),
        };
        task.snapshot = task
            .is_visible()
            .then(|| render::snapshot(key, task, &context))
            .flatten();
        self.task_changes.note(before.as_ref(), task.snapshot.as_ref());
        if (self.is_queued)(task) {
            self.queue.insert(Arc::clone(key));
        }
        if let Some(subscribers) = &task.subscribers {
            subscribers.send_replace(());
            if subscribers.is_closed() {
                task.subscribers = None;
            }
        }
        self.update_group(key);
        self.update_listing(&key.id);
        if self.tasks.get(key).is_some_and(Task::is_empty) {
            self.remove_task(key);
        }
    }

    fn remove_task(&mut self, key: &Arc<TaskKey>) {
        self.tasks.remove(key);
        self.controller_errors.remove(key);
        if let Some(token) = key.submission.as_deref()
            && let Some(keys) = self.by_token.get_mut(token)
        {
            keys.remove(key);
            if keys.is_empty() {
                self.by_token.remove(token);
            }
        }
    }

    /// Indexes a task under its group, and marks the group as changed.
    fn update_group(&mut self, key: &Arc<TaskKey>) {
        let Some(task) = self.tasks.get_mut(key) else { return };
        let group = task
            .owner()
            .filter(|owner| owner.committed)
            .and_then(TaskOwner::group_key);
        let before = std::mem::replace(&mut task.group, group.clone());
        if let Some(before) = before {
            if let Some(tasks) = self
                .by_group
                .get_mut(&before)
                .filter(|_| Some(&before) != group.as_ref())
            {
                tasks.remove(key);
                if tasks.is_empty() {
                    self.by_group.remove(&before);
                }
            }
            self.changed_groups.insert(before);
        }
        if let Some(group) = group {
            self.by_group.entry(group.clone()).or_default().insert(Arc::clone(key));
            self.changed_groups.insert(group);
        }
    }

    /// Decides which of the tasks with the same ID are listed for their users.
    fn update_listing(&mut self, id: &str) {
        let claims: Vec<(&Arc<TaskKey>, &Task)> = self.tasks_with_id(id).collect();
        for (key, listed) in choose_listed(claims) {
            let Some(task) = self.tasks.get_mut(&key) else { continue };
            let shown = task.snapshot.as_ref().filter(|_| listed.is_some());
            self.change_log.note(&key, &mut task.announced, shown);
            let before = std::mem::replace(&mut task.listed, listed);
            if before == listed {
                continue;
            }
            if let Some(before) = before
                && let Some(entries) = self.by_user.get_mut(&key.user)
            {
                entries.remove(&(before, Arc::clone(&key)));
                if entries.is_empty() {
                    self.by_user.remove(&key.user);
                }
            }
            if let Some(listed) = listed {
                self.by_user.entry(key.user.clone()).or_default().insert((listed, key));
            }
        }
    }
}
