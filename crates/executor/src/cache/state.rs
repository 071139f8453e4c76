//! What the cache holds, and how it stays in itself consistent: every change ends with the aggregation of what it touched.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

use super::object::{Job, Pod, TaskOwner, Volume, Warning};
use super::phase::Reason;
use super::store::GangTask;
use super::view::{Attempts, View};
use crate::labels::Owner;

/// How many warnings are kept. The newest are those that say why something waits now.
const MAX_WARNINGS: usize = 4096;

/// How long a deleted object is remembered, so that a late answer about it cannot bring it back. Longer than any call.
const TOMBSTONE_LIFE: Duration = Duration::from_secs(300);

pub(super) struct State {
    namespace: String,
    pub tasks: HashMap<String, Task>,
    /// The visible tasks of each user, oldest first.
    pub by_owner: HashMap<Owner, BTreeSet<(Timestamp, String)>>,
    pub volumes: HashMap<String, Volume>,
    pub last_event: Option<Instant>,
    /// Whether all that was there at the start has been seen; until then a change is a part of it that was not seen yet.
    pub is_complete: bool,
    warnings: HashMap<String, Reason>,
    warned: VecDeque<String>,
    /// Objects that are gone, by uid.
    tombstones: HashMap<String, Instant>,
    /// Objects that this process made and no watch has shown yet, by uid.
    unconfirmed: HashMap<String, Instant>,
    /// Tasks to be aggregated again.
    touched: HashSet<String>,
    /// Tasks with several nodes that have changed since they were last looked at.
    pub gangs: HashSet<String>,
}

#[derive(Default)]
pub(super) struct Task {
    /// By attempt and rank.
    pub jobs: Vec<Job>,
    pub pods: Vec<Pod>,
    pub owner: Option<TaskOwner>,
    pub view: Option<Arc<View>>,
    pub followers: Option<watch::Sender<()>>,
}

/// What a list of one kind showed, to forget what is no longer there.
pub(super) struct Listed<'a> {
    pub uids: &'a HashSet<String>,
    /// What was made later than this may be missing in the list.
    pub started: Instant,
}

impl State {
    pub fn new(namespace: String) -> Self {
        Self {
            namespace,
            tasks: HashMap::new(),
            by_owner: HashMap::new(),
            volumes: HashMap::new(),
            last_event: None,
            is_complete: false,
            warnings: HashMap::new(),
            warned: VecDeque::new(),
            tombstones: HashMap::new(),
            unconfirmed: HashMap::new(),
            touched: HashSet::new(),
            gangs: HashSet::new(),
        }
    }

    /// Changes anything, then aggregates every task that was touched, once.
    pub fn change(&mut self, change: impl FnOnce(&mut Self)) {
        change(self);
        for id in std::mem::take(&mut self.touched) {
            self.refresh(&id);
        }
    }

    pub fn put_job(&mut self, job: Job) {
        if let Some(made) = self.unconfirmed.remove(&job.uid) {
            metrics::histogram!("k8s_cli_watch_latency_seconds").record(made.elapsed().as_secs_f64());
        }
        if !self.tombstones.contains_key(&job.uid) {
            self.task(&job.task_id).put_job(job);
        }
    }

    pub fn put_owner(&mut self, owner: TaskOwner) {
        self.unconfirmed.remove(&owner.uid);
        if !self.tombstones.contains_key(&owner.uid) {
            let task = self.task(&owner.task_id);
            task.owner = Some(owner);
        }
    }

    pub fn put_pod(&mut self, pod: Pod) {
        let pods = &mut self.task(&pod.task_id).pods;
        match pods.iter_mut().find(|known| known.uid == pod.uid) {
            Some(known) => *known = pod,
            None => {
                // Most tasks have one; a list would make room for four.
                if pods.is_empty() {
                    pods.reserve_exact(1);
                }
                pods.push(pod);
            }
        }
    }

    pub fn put_volume(&mut self, volume: Volume) {
        self.unconfirmed.remove(&volume.uid);
        if !self.tombstones.contains_key(&volume.uid) {
            self.volumes.insert(volume.uid.clone(), volume);
        }
    }

    pub fn put_warning(&mut self, warning: Warning) {
        let concerned = |task: &Task| {
            task.jobs.iter().any(|job| job.uid == warning.about) || task.pods.iter().any(|pod| pod.uid == warning.about)
        };
        if let Some((id, _)) = self.tasks.iter().find(|(_, task)| concerned(task)) {
            self.touched.insert(id.clone());
        }
        if self.warnings.insert(warning.about.clone(), warning.reason).is_none() {
            self.warned.push_back(warning.about);
        }
        if self.warned.len() > MAX_WARNINGS
            && let Some(oldest) = self.warned.pop_front()
        {
            self.warnings.remove(&oldest);
        }
    }

    pub fn remove_job(&mut self, job: &Job) {
        self.task(&job.task_id).jobs.retain(|known| known.uid != job.uid);
        self.bury(job.uid.clone());
    }

    pub fn remove_owner(&mut self, owner: &TaskOwner) {
        self.task(&owner.task_id).owner.take_if(|known| known.uid == owner.uid);
        self.bury(owner.uid.clone());
    }

    pub fn remove_pod(&mut self, pod: &Pod) {
        self.task(&pod.task_id).pods.retain(|known| known.uid != pod.uid);
    }

    pub fn remove_volume(&mut self, volume: &Volume) {
        self.volumes.remove(&volume.uid);
        self.bury(volume.uid.clone());
    }

    pub fn retain_jobs(&mut self, listed: &Listed) {
        self.retain(listed, |task, keep| {
            let before = task.jobs.len();
            task.jobs.retain(|job| keep(&job.uid));
            task.jobs.len() != before
        });
    }

    pub fn retain_owners(&mut self, listed: &Listed) {
        self.retain(listed, |task, keep| {
            task.owner.take_if(|owner| !keep(&owner.uid)).is_some()
        });
    }

    pub fn retain_pods(&mut self, listed: &Listed) {
        self.retain(listed, |task, keep| {
            let before = task.pods.len();
            task.pods.retain(|pod| keep(&pod.uid));
            task.pods.len() != before
        });
    }

    pub fn retain_volumes(&mut self, listed: &Listed) {
        let unconfirmed = &self.unconfirmed;
        self.volumes.retain(|uid, _| is_kept(unconfirmed, listed, uid));
    }

    /// A watch that was faster knows the object better; one that saw its end must not be overruled.
    pub fn made_job(&mut self, job: Job) {
        let known = |task: &Task| task.jobs.iter().any(|known| known.uid == job.uid);
        if self.tasks.get(&job.task_id).is_some_and(known) || self.tombstones.contains_key(&job.uid) {
            return;
        }
        self.unconfirmed.insert(job.uid.clone(), Instant::now());
        self.task(&job.task_id).put_job(job);
    }

    pub fn made_owner(&mut self, owner: TaskOwner) {
        if !self.tombstones.contains_key(&owner.uid) {
            self.unconfirmed.insert(owner.uid.clone(), Instant::now());
            let task = self.task(&owner.task_id);
            task.owner = Some(owner);
        }
    }

    pub fn made_volume(&mut self, volume: Volume) {
        if !self.volumes.contains_key(&volume.uid) && !self.tombstones.contains_key(&volume.uid) {
            self.unconfirmed.insert(volume.uid.clone(), Instant::now());
            self.volumes.insert(volume.uid.clone(), volume);
        }
    }

    /// What a patch of ours has set for good. The rest of its answer may be older than what a watch has shown.
    pub fn changed_job(&mut self, job: Job) {
        let known = self.tasks.get_mut(&job.task_id);
        if let Some(known) = known.and_then(|task| task.jobs.iter_mut().find(|known| known.uid == job.uid)) {
            known.ended_because_of = job.ended_because_of.or(known.ended_because_of);
            known.provision_timed_out = job.provision_timed_out.or(known.provision_timed_out.take());
            self.touched.insert(job.task_id);
        }
    }

    /// See [`Self::changed_job`].
    pub fn changed_pod(&mut self, pod: &Pod) {
        let known = self.tasks.get_mut(&pod.task_id);
        if let Some(known) = known.and_then(|task| task.pods.iter_mut().find(|known| known.uid == pod.uid)) {
            known.may_begin |= pod.may_begin;
            known.may_run |= pod.may_run;
            known.ended_because_of = pod.ended_because_of.or(known.ended_because_of);
            self.touched.insert(pod.task_id.clone());
        }
    }

    /// The pods stay: their logs are followed to the end.
    pub fn forget_task(&mut self, id: &str) {
        if !self.tasks.contains_key(id) {
            return;
        }
        let task = self.task(id);
        let jobs = std::mem::take(&mut task.jobs);
        let owner = task.owner.take();
        for uid in jobs.into_iter().map(|job| job.uid).chain(owner.map(|owner| owner.uid)) {
            self.bury(uid);
        }
    }

    pub fn deleted_volume(&mut self, uid: &str, in_use: bool) {
        if !in_use {
            self.volumes.remove(uid);
            self.bury(uid.to_owned());
        } else if let Some(volume) = self.volumes.get_mut(uid) {
            volume.terminating = true;
        }
    }

    /// The task with this identifier, to be changed.
    fn task(&mut self, id: &str) -> &mut Task {
        self.touched.insert(id.to_owned());
        self.tasks.entry(id.to_owned()).or_default()
    }

    fn bury(&mut self, uid: String) {
        self.tombstones.retain(|_, buried| buried.elapsed() < TOMBSTONE_LIFE);
        self.unconfirmed.remove(&uid);
        self.tombstones.insert(uid, Instant::now());
    }

    fn retain(&mut self, listed: &Listed, forget: impl Fn(&mut Task, &dyn Fn(&str) -> bool) -> bool) {
        let unconfirmed = &self.unconfirmed;
        let keep = |uid: &str| is_kept(unconfirmed, listed, uid);
        for (id, task) in &mut self.tasks {
            if forget(task, &keep) {
                self.touched.insert(id.clone());
            }
        }
    }

    fn refresh(&mut self, id: &str) {
        let Some(task) = self.tasks.get_mut(id) else { return };
        let before = task.view.take();
        task.view = task.visible_owner().and_then(|owned_by| {
            let warning = |uid: &str| self.warnings.get(uid);
            View::build(
                Attempts::of(&task.jobs),
                &task.pods,
                owned_by,
                warning,
                &self.namespace,
                before.as_ref().filter(|_| self.is_complete),
            )
        });
        if task.view.is_some() && (task.jobs[0].gang.is_some() || task.jobs[0].recovery.is_some()) {
            self.gangs.insert(id.to_owned());
        }
        if let Some(followers) = &task.followers {
            followers.send_replace(());
            if followers.is_closed() {
                task.followers = None;
            }
        }
        let key = |view: &Arc<View>| (view.owner.clone(), (view.created_at, id.to_owned()));
        let (old, new) = (before.as_ref().map(key), task.view.as_ref().map(key));
        if task.jobs.is_empty() && task.pods.is_empty() && task.owner.is_none() {
            self.tasks.remove(id);
        }
        if old == new {
            return;
        }
        if let Some((owner, entry)) = old
            && let Some(entries) = self.by_owner.get_mut(&owner)
        {
            entries.remove(&entry);
            if entries.is_empty() {
                self.by_owner.remove(&owner);
            }
        }
        if let Some((owner, entry)) = new {
            self.by_owner.entry(owner).or_default().insert(entry);
        }
    }
}

impl Task {
    fn put_job(&mut self, job: Job) {
        match self.jobs.iter_mut().find(|known| known.uid == job.uid) {
            Some(known) => *known = job,
            None => {
                let place = self.jobs.partition_point(|known| known.place() < job.place());
                // The first of most tasks is the only one; a list would make room for four.
                if self.jobs.is_empty() {
                    self.jobs.reserve_exact(1);
                }
                self.jobs.insert(place, job);
            }
        }
    }

    /// `None` when there is nothing to look after: one node that is run once, or all is over.
    pub fn gang(&self) -> Option<GangTask> {
        let view = self.view.as_ref()?;
        let jobs = Attempts::of(&self.jobs);
        let present = jobs.present;
        let first = present.first()?;
        let is_looked_after = first.gang.is_some() || first.recovery.is_some() || first.provision_timeout.is_some();
        let is_made = |job: &Job| present.iter().any(|made| made.rank == job.rank);
        let is_whole = jobs.before().iter().all(is_made);
        let is_over = view.state.is_final() && is_whole && present.iter().all(Job::is_over);
        if !is_looked_after || is_over {
            return None;
        }
        Some(GangTask {
            restart: view.restart.filter(|restart| restart.is_due),
            ..GangTask::of_attempts(jobs, &self.pods, view.num_nodes)
        })
    }

    /// Whether it waits: to begin, or to be run again.
    pub fn is_pending(&self) -> bool {
        let view = self.view.as_ref();
        view.is_some_and(|view| view.state == task::State::Pending)
    }

    /// Whether all of it ended longer ago than it is to be kept. What has no owner Kubernetes deletes by itself.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        let Some(view) = self.view.as_ref().filter(|view| view.owned_by.is_some()) else {
            return false;
        };
        let present = Attempts::of(&self.jobs).present;
        let Some(seconds) = present.first().and_then(|job| job.ttl_after_finished) else {
            return false;
        };
        let end = present.iter().filter_map(|job| job.ended_at).max();
        let is_long_ago = |end: Timestamp| now.duration_since(end) >= SignedDuration::from_secs(seconds.into());
        view.state.is_final() && present.iter().all(Job::is_over) && end.is_some_and(is_long_ago)
    }

    /// `None` hides the task: it is owned, and its owner is not committed or is gone.
    #[expect(clippy::option_option, reason = "hidden, without an owner, with one")]
    fn visible_owner(&self) -> Option<Option<(String, String)>> {
        let Some(owned_by) = self.jobs.first().and_then(|job| job.owned_by.as_ref()) else {
            return Some(None);
        };
        let owner = self.owner.as_ref()?;
        (owner.committed && owner.uid == *owned_by).then(|| Some((owner.name.clone(), owner.uid.clone())))
    }
}

fn is_kept(unconfirmed: &HashMap<String, Instant>, listed: &Listed, uid: &str) -> bool {
    listed.uids.contains(uid) || unconfirmed.get(uid).is_some_and(|made| *made >= listed.started)
}
