//! The content of the cache. Every change ends by aggregating the tasks it touched, so that views are never stale.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use clock::Clock;
use jiff::Timestamp;
use task::UserName;
use tokio::time::Instant;

use super::graves::{Gone, Graves};
use super::identity::TaskKey;
use super::job::Job;
use super::object::{Pod, TaskOwner, Volume, Warning};
use super::render::{self, Context};
use super::task::Task;
use super::warnings::Warnings;
use crate::labels::{self, Owner};

pub(super) struct State {
    namespace: String,
    pub clock: Clock,
    pub tasks: BTreeMap<Arc<TaskKey>, Task>,
    /// The visible tasks of each user, oldest first.
    pub by_owner: HashMap<Owner, BTreeSet<(Timestamp, Arc<TaskKey>)>>,
    /// The tasks submitted with an `Idempotency-Key`, by its token.
    pub by_token: HashMap<Box<str>, BTreeSet<Arc<TaskKey>>>,
    pub volumes: HashMap<String, Volume>,
    pub last_event: Option<Instant>,
    /// Whether the first lists are complete. Before that, an event only fills the cache, and must not count as a change
    /// of its task.
    pub is_complete: bool,
    /// The task of each object, by the object's uid.
    homes: HashMap<String, Arc<TaskKey>>,
    /// Pods that arrived before their Job, by the Job's uid. The watches are independent, so either may come first.
    homeless: HashMap<String, Vec<Pod>>,
    pub warnings: Warnings,
    graves: Graves,
    /// When this process created objects that no watch has shown yet, by uid.
    unconfirmed: HashMap<String, Instant>,
    /// Tasks to aggregate at the end of the current change.
    touched: HashSet<Arc<TaskKey>>,
    /// Tasks that changed since a controller last took them.
    pub gangs: BTreeSet<Arc<TaskKey>>,
    /// Errors of the server that keep tasks from moving on.
    obstacles: HashMap<Arc<TaskKey>, String>,
}

/// The result of a list of one kind, for removing everything that it does not contain.
pub(super) struct Listed<'a> {
    pub uids: &'a HashSet<String>,
    /// Objects created after this time may be missing in the list.
    pub started: Instant,
}

impl State {
    pub fn new(namespace: String, clock: Clock) -> Self {
        Self {
            namespace,
            clock,
            tasks: BTreeMap::new(),
            by_owner: HashMap::new(),
            by_token: HashMap::new(),
            volumes: HashMap::new(),
            last_event: None,
            is_complete: false,
            homes: HashMap::new(),
            homeless: HashMap::new(),
            warnings: Warnings::default(),
            graves: Graves::default(),
            unconfirmed: HashMap::new(),
            touched: HashSet::new(),
            gangs: BTreeSet::new(),
            obstacles: HashMap::new(),
        }
    }

    /// Makes a change, then aggregates each task that it touched, once.
    pub fn change(&mut self, change: impl FnOnce(&mut Self)) {
        change(self);
        for key in std::mem::take(&mut self.touched) {
            self.refresh(&key);
        }
    }

    /// All tasks with this ID, of any user.
    pub fn claiming<'a>(&'a self, id: &'a str) -> impl Iterator<Item = (&'a Arc<TaskKey>, &'a Task)> {
        let first = TaskKey {
            id: id.into(),
            owner: Owner::first(),
            submission: None,
        };
        self.tasks
            .range::<TaskKey, _>(&first..)
            .take_while(move |(key, _)| *key.id == *id)
    }

    pub fn put_job(&mut self, job: Job) {
        if let Some(made) = self.unconfirmed.remove(&job.uid) {
            metrics::histogram!("k8s_cli_watch_latency_seconds").record(made.elapsed().as_secs_f64());
        }
        if !self.graves.refuses(&job.uid) {
            self.take_in_job(job);
        }
    }

    fn take_in_job(&mut self, mut job: Job) {
        let key = self.settle(&job.uid, &job.key);
        job.key = Arc::clone(&key);
        if let Some(token) = key.submission.as_deref().filter(|token| labels::is_key_token(token)) {
            self.by_token.entry(token.into()).or_default().insert(Arc::clone(&key));
        }
        let pods = self.homeless.remove(&job.uid).unwrap_or_default();
        self.task(&key).put_job(job);
        for pod in pods {
            self.put_pod(pod);
        }
    }

    pub fn put_owner(&mut self, mut owner: TaskOwner) {
        self.unconfirmed.remove(&owner.uid);
        if !self.graves.refuses(&owner.uid) {
            owner.key = self.settle(&owner.uid, &owner.key);
            let key = Arc::clone(&owner.key);
            self.task(&key).put_owner(owner);
        }
    }

    pub fn put_pod(&mut self, pod: Pod) {
        // The last event of a pod may arrive after its Job is gone; then the pod's own entry names the task.
        let Some(key) = self
            .homes
            .get(&pod.uid)
            .or_else(|| self.homes.get(&pod.job_uid))
            .cloned()
        else {
            let pods = self.homeless.entry(pod.job_uid.clone()).or_default();
            pods.retain(|known| known.uid != pod.uid);
            pods.push(pod);
            return;
        };
        let job = self
            .tasks
            .get(&key)
            .and_then(|task| task.all_jobs().find(|job| job.uid == pod.job_uid));
        let is_known = self.homes.contains_key(&pod.uid);
        if job.map_or(is_known, |job| pod.is_of(job)) {
            self.settle(&pod.uid, &key);
            self.task(&key).put_pod(pod);
        }
    }

    pub fn put_volume(&mut self, volume: Volume) {
        self.unconfirmed.remove(&volume.uid);
        if !self.graves.refuses(&volume.uid) {
            self.volumes.insert(volume.uid.clone(), volume);
        }
    }

    pub fn put_warning(&mut self, warning: Warning) {
        match self.homes.get(&warning.about) {
            Some(key) => {
                self.touched.insert(Arc::clone(key));
                self.warnings.put(warning);
            }
            None => self.warnings.put_early(warning),
        }
    }

    /// Removes a Job or an owner that a watch no longer shows. Its pods stay, because their logs may still be followed.
    pub fn unseen(&mut self, uid: &str) {
        self.forget_object(uid);
        self.bury(uid, Gone::Unseen);
    }

    /// Removes a Job or an owner that Kubernetes has confirmed as deleted.
    pub fn deleted(&mut self, uid: &str) {
        self.forget_object(uid);
        self.bury(uid, Gone::Deleted);
    }

    pub fn remove_pod(&mut self, uid: &str) {
        self.warnings.forget(uid);
        if let Some(key) = self.homes.remove(uid) {
            self.task(&key).pods.retain(|known| known.uid != uid);
        } else {
            self.homeless.retain(|_, pods| {
                pods.retain(|pod| pod.uid != uid);
                !pods.is_empty()
            });
        }
    }

    /// Removes a volume that a watch no longer shows.
    pub fn remove_volume(&mut self, uid: &str) {
        self.volumes.remove(uid);
        self.bury(uid, Gone::Unseen);
    }

    pub fn retain_jobs(&mut self, listed: &Listed) {
        let jobs = self.tasks.values().flat_map(Task::all_jobs);
        for uid in self.no_longer(listed, jobs.map(|job| &job.uid)) {
            self.forget_object(&uid);
        }
    }

    pub fn retain_owners(&mut self, listed: &Listed) {
        let owners = self.tasks.values().flat_map(Task::owners);
        for uid in self.no_longer(listed, owners.map(|owner| &owner.uid)) {
            self.forget_object(&uid);
        }
    }

    pub fn retain_pods(&mut self, listed: &Listed) {
        let pods = self.tasks.values().flat_map(|task| &task.pods);
        let homeless = self.homeless.values().flatten();
        for uid in self.no_longer(listed, pods.chain(homeless).map(|pod| &pod.uid)) {
            self.remove_pod(&uid);
        }
    }

    pub fn retain_volumes(&mut self, listed: &Listed) {
        for uid in self.no_longer(listed, self.volumes.keys()) {
            self.volumes.remove(&uid);
        }
    }

    /// Adds a Job from the response to a create. If the watch was faster, it has a newer version, or has already seen
    /// the deletion, and neither may be overwritten.
    pub fn made_job(&mut self, job: Job) {
        if self.homes.contains_key(&job.uid) || self.graves.holds(&job.uid) {
            return;
        }
        self.unconfirmed.insert(job.uid.clone(), Instant::now());
        self.take_in_job(job);
    }

    /// Adds an owner from the response to a create or a patch; see [`Self::made_job`]. Owners are versioned, so the
    /// newer one is kept.
    pub fn made_owner(&mut self, mut owner: TaskOwner) {
        if !self.graves.holds(&owner.uid) {
            self.unconfirmed.entry(owner.uid.clone()).or_insert_with(Instant::now);
            owner.key = self.settle(&owner.uid, &owner.key);
            let key = Arc::clone(&owner.key);
            self.task(&key).put_owner(owner);
        }
    }

    pub fn made_volume(&mut self, volume: Volume) {
        if !self.volumes.contains_key(&volume.uid) && !self.graves.holds(&volume.uid) {
            self.unconfirmed.insert(volume.uid.clone(), Instant::now());
            self.volumes.insert(volume.uid.clone(), volume);
        }
    }

    /// Takes from the response to a patch only what never changes back. The rest may be older than what a watch has
    /// shown.
    pub fn changed_job(&mut self, job: Job) {
        let Some(key) = self.homes.get(&job.uid).cloned() else {
            return;
        };
        if let Some(known) = self.task(&key).job_mut(&job.uid) {
            known.ended_because_of = job.ended_because_of.or(known.ended_because_of);
            known.provision_timed_out = job.provision_timed_out.or(known.provision_timed_out.take());
            known.exit_code = job.exit_code.or(known.exit_code);
        }
    }

    /// The same as [`Self::changed_job`] for a pod.
    pub fn changed_pod(&mut self, pod: &Pod) {
        let Some(key) = self.homes.get(&pod.uid).cloned() else {
            return;
        };
        let pods = &mut self.task(&key).pods;
        if let Some(known) = pods.iter_mut().find(|known| known.uid == pod.uid) {
            known.may_begin |= pod.may_begin;
            known.may_run |= pod.may_run;
            known.ended_because_of = pod.ended_because_of.or(known.ended_because_of);
        }
    }

    /// Sets or clears the obstacle of a task. Only the status text changes, so the task is not queued again; otherwise
    /// every failure would trigger the next try immediately.
    pub fn obstructed(&mut self, key: &Arc<TaskKey>, why: Option<String>) {
        let is_there = self.tasks.contains_key(key);
        let before = match why.clone().filter(|_| is_there) {
            Some(why) => self.obstacles.insert(Arc::clone(key), why),
            None => self.obstacles.remove(key),
        };
        if before != why && is_there {
            let is_waiting = self.gangs.contains(key);
            self.refresh(key);
            if !is_waiting {
                self.gangs.remove(key);
            }
        }
    }

    pub fn deleted_volume(&mut self, uid: &str, in_use: bool) {
        if !in_use {
            self.volumes.remove(uid);
            self.bury(uid, Gone::Deleted);
        } else if let Some(volume) = self.volumes.get_mut(uid) {
            volume.terminating = true;
        }
    }

    /// Assigns an object to a task, and removes it from its previous task: somebody may have edited its labels.
    fn settle(&mut self, uid: &str, key: &Arc<TaskKey>) -> Arc<TaskKey> {
        let key = self.tasks.get_key_value(key).map_or(key, |(known, _)| known).clone();
        match self.homes.insert(uid.to_owned(), Arc::clone(&key)) {
            Some(before) if before != key => {
                let task = self.task(&before);
                task.remove_job(uid);
                task.remove_owner(uid);
            }
            Some(_) => {}
            None => self.warnings.adopt(uid),
        }
        key
    }

    /// The task with this key, marked as touched.
    fn task(&mut self, key: &Arc<TaskKey>) -> &mut Task {
        self.touched.insert(Arc::clone(key));
        self.tasks.entry(Arc::clone(key)).or_default()
    }

    fn forget_object(&mut self, uid: &str) {
        self.warnings.forget(uid);
        if let Some(key) = self.homes.remove(uid) {
            let task = self.task(&key);
            task.remove_job(uid);
            task.remove_owner(uid);
        }
    }

    fn bury(&mut self, uid: &str, how: Gone) {
        self.unconfirmed.remove(uid);
        self.graves.bury(uid, how);
    }

    /// The uids in `known` that a list no longer contains. Objects that this process created after the list started
    /// don't count.
    fn no_longer<'a>(&self, listed: &Listed, known: impl Iterator<Item = &'a String>) -> Vec<String> {
        let is_new = |uid: &String| self.unconfirmed.get(uid).is_some_and(|made| *made >= listed.started);
        known
            .filter(|uid| !listed.uids.contains(*uid) && !is_new(uid))
            .cloned()
            .collect()
    }

    /// Updates everything that derives from the objects of a task: its view, its place in the controllers' queue and in
    /// its user's list, and its followers. The new view is stored before the followers wake, and the write lock is held
    /// throughout, so a follower never reads an older state than the one it was woken for. The previous view is taken
    /// out first: if the JSON is the same, the new view keeps the old `updated_at`, and a repeated list does not look
    /// like a change. An empty task is removed last, because [`Self::arrange`] still needs its entry to take it off the
    /// list.
    fn refresh(&mut self, key: &Arc<TaskKey>) {
        let Some(task) = self.tasks.get_mut(key) else { return };
        let before = task.view.take();
        let context = Context {
            warnings: &self.warnings,
            namespace: &self.namespace,
            now: self.clock.now(),
            previous: before.as_ref().filter(|_| self.is_complete),
            obstacle: self.obstacles.get(key).map(String::as_str),
        };
        task.view = task.is_visible().then(|| render::view(key, task, &context)).flatten();
        let is_looked_after = |job: &Job| job.gang.is_some() || job.recovery.is_some();
        let is_outlived = task.pods.iter().any(|pod| pod.outlived);
        if task.view.is_some() && (is_outlived || task.jobs.first().is_some_and(is_looked_after)) {
            self.gangs.insert(Arc::clone(key));
        }
        if let Some(followers) = &task.followers {
            followers.send_replace(());
            if followers.is_closed() {
                task.followers = None;
            }
        }
        self.arrange(&key.id);
        if self.tasks.get(key).is_some_and(Task::is_empty) {
            self.forget(key);
        }
    }

    fn forget(&mut self, key: &Arc<TaskKey>) {
        self.tasks.remove(key);
        self.obstacles.remove(key);
        if let Some(token) = key.submission.as_deref()
            && let Some(keys) = self.by_token.get_mut(token)
        {
            keys.remove(key);
            if keys.is_empty() {
                self.by_token.remove(token);
            }
        }
    }

    /// Decides which of the tasks with the same ID are listed for their users.
    fn arrange(&mut self, id: &str) {
        let claims: Vec<(&Arc<TaskKey>, &Task)> = self.claiming(id).collect();
        for (key, listed) in shown(claims) {
            let Some(task) = self.tasks.get_mut(&key) else { continue };
            let before = std::mem::replace(&mut task.listed, listed);
            if before == listed {
                continue;
            }
            if let Some(before) = before
                && let Some(entries) = self.by_owner.get_mut(&key.owner)
            {
                entries.remove(&(before, Arc::clone(&key)));
                if entries.is_empty() {
                    self.by_owner.remove(&key.owner);
                }
            }
            if let Some(listed) = listed {
                self.by_owner
                    .entry(key.owner.clone())
                    .or_default()
                    .insert((listed, key));
            }
        }
    }
}

/// Which of the tasks with the same ID are listed, and under which creation time: for each user the one that was
/// created first, and a Python task only if none of ours has the ID. Without this, anybody who may create Jobs could
/// shadow another user's task by copying its ID.
fn shown(mut claims: Vec<(&Arc<TaskKey>, &Task)>) -> Vec<(Arc<TaskKey>, Option<Timestamp>)> {
    let time = |task: &Task| task.view.as_ref().map(|view| view.created_at);
    if let [(key, task)] = claims.as_slice() {
        return vec![(Arc::clone(key), time(task))];
    }
    // If two were created in the same second, the one that is already listed stays.
    claims.sort_by_key(|(key, task)| {
        let made_at = task.view.as_ref().map(|view| view.made_at);
        (key.submission.is_none(), made_at, task.listed.is_none())
    });
    let mut taken: HashSet<Owner> = HashSet::new();
    let mut all = Vec::with_capacity(claims.len());
    for (key, task) in claims {
        let listed = time(task).filter(|_| !taken.contains(&key.owner));
        if let Some(view) = task.view.as_ref().filter(|_| listed.is_some()) {
            taken.insert(key.owner.clone());
            let user = UserName::parse(&view.username);
            taken.extend(user.ok().map(|user| Owner::of_python(&user)));
        }
        all.push((Arc::clone(key), listed));
    }
    all
}
