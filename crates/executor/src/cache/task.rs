//! The objects of one task: which of those that claim to belong to it do, and what follows from them.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use task::TaskState;
use tokio::sync::watch;

use super::attempts::Attempts;
use super::gang_task::GangTask;
use super::job::Job;
use super::members::Members;
use super::object::{Pod, TaskOwner};
use super::view::View;

/// All objects with the key of one task.
#[derive(Default)]
pub(super) struct Task {
    /// The Jobs of the task, by attempt and rank.
    pub jobs: Vec<Job>,
    /// Jobs that have the key but don't belong to the task.
    others: Vec<Job>,
    pub pods: Vec<Pod>,
    /// ConfigMaps that have the key and may own the Jobs.
    owners: Vec<TaskOwner>,
    /// The uid of the one that does.
    accepted: Option<String>,
    pub view: Option<Arc<View>>,
    pub followers: Option<watch::Sender<()>>,
    /// The creation time under which the task is in its user's list.
    pub listed: Option<Timestamp>,
}

impl Task {
    pub fn put_job(&mut self, job: Job) {
        self.take_job(&job.uid);
        // Most tasks have one Job, and a first push would allocate room for four.
        if self.jobs.is_empty() {
            self.jobs.reserve_exact(1);
        }
        let place = self.jobs.partition_point(|known| known.place() < job.place());
        self.jobs.insert(place, job);
        self.sort_out();
    }

    /// Removes a Job, and returns whether it was there.
    pub fn remove_job(&mut self, uid: &str) -> bool {
        let was_there = self.take_job(uid);
        self.sort_out();
        was_there
    }

    /// Adds or replaces an owner. The response to a patch may be ahead of the watch, so an older state is ignored.
    pub fn put_owner(&mut self, owner: TaskOwner) {
        if self
            .owners
            .iter()
            .any(|known| known.uid == owner.uid && known.is_newer_than(&owner))
        {
            return;
        }
        self.owners.retain(|known| known.uid != owner.uid);
        self.owners.push(owner);
        self.sort_out();
    }

    pub fn remove_owner(&mut self, uid: &str) {
        self.owners.retain(|known| known.uid != uid);
        self.sort_out();
    }

    pub fn put_pod(&mut self, pod: Pod) {
        match self.pods.iter_mut().find(|known| known.uid == pod.uid) {
            Some(known) => *known = pod,
            None => {
                if self.pods.is_empty() {
                    self.pods.reserve_exact(1);
                }
                self.pods.push(pod);
            }
        }
    }

    /// All Jobs with the key, whether they belong to the task or not.
    pub fn all_jobs(&self) -> impl Iterator<Item = &Job> {
        self.jobs.iter().chain(&self.others)
    }

    /// All ConfigMaps with the key.
    pub fn owners(&self) -> &[TaskOwner] {
        &self.owners
    }

    pub fn job_mut(&mut self, uid: &str) -> Option<&mut Job> {
        self.jobs.iter_mut().chain(&mut self.others).find(|job| job.uid == uid)
    }

    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty() && self.others.is_empty() && self.pods.is_empty() && self.owners.is_empty()
    }

    /// The owner of the Jobs. A single Job has none, even if a ConfigMap has the same key.
    pub fn owner(&self) -> Option<&TaskOwner> {
        let accepted = self.accepted.as_ref()?;
        self.owners.iter().find(|owner| owner.uid == *accepted)
    }

    fn take_job(&mut self, uid: &str) -> bool {
        let before = self.jobs.len() + self.others.len();
        self.jobs.retain(|job| job.uid != uid);
        self.others.retain(|job| job.uid != uid);
        before != self.jobs.len() + self.others.len()
    }

    /// Decides which of the Jobs belong to the task, and what owns them.
    fn sort_out(&mut self) {
        let members = Members::of(&self.owners, self.jobs.iter().chain(&self.others));
        let accepted = members.owner().map(|owner| owner.uid.clone());
        let is_right =
            self.jobs.iter().all(|job| members.include(job)) && !self.others.iter().any(|job| members.include(job));
        if !is_right {
            let is_member: Vec<bool> = self
                .jobs
                .iter()
                .chain(&self.others)
                .map(|job| members.include(job))
                .collect();
            let all = std::mem::take(&mut self.jobs)
                .into_iter()
                .chain(std::mem::take(&mut self.others));
            for (job, is_member) in all.zip(is_member) {
                if is_member {
                    self.jobs.push(job)
                } else {
                    self.others.push(job)
                }
            }
            self.jobs
                .sort_unstable_by(|left, right| left.place().cmp(&right.place()));
        }
        self.accepted = accepted;
    }

    /// Whether users can see the task: it has Jobs, and their owner is committed.
    pub fn is_visible(&self) -> bool {
        let is_owned = self.jobs.first().is_some_and(|job| job.owned_by.is_some());
        !self.jobs.is_empty() && (!is_owned || self.owner().is_none_or(|owner| owner.committed))
    }

    /// Whether the task was deleted but finalizers still hold its owner or all Jobs of its current attempt. A single
    /// deleted Job of a gang, or the Jobs of earlier attempts, don't count.
    pub fn is_terminating(&self) -> bool {
        let present = Attempts::of(&self.jobs).present;
        let are_going = !present.is_empty() && present.iter().all(|job| job.terminating.is_some());
        are_going || self.owner().is_some_and(|owner| owner.terminating)
    }

    /// The task as the controllers see it, or `None` if it needs no attention: a single node that is not retried, or a
    /// finished task.
    pub fn gang(&self) -> Option<GangTask> {
        let view = self.view.as_ref()?;
        let jobs = Attempts::of(&self.jobs);
        let present = jobs.present;
        let first = present.first()?;
        let is_outlived = self.pods.iter().any(|pod| pod.outlived);
        let is_looked_after = first.gang.is_some() || first.recovery.is_some() || first.provision_timeout.is_some();
        let is_made = |job: &Job| present.iter().any(|made| made.rank == job.rank);
        let is_whole = jobs.before().iter().all(is_made);
        let is_over = view.state.is_final() && is_whole && present.iter().all(Job::is_over);
        if self.is_terminating() || !(is_outlived || is_looked_after && !is_over) {
            return None;
        }
        Some(GangTask {
            restart: view.restart.filter(|restart| restart.is_due),
            owner: self.owner().cloned(),
            ..GangTask::of_attempts(jobs, &self.pods, view.num_nodes)
        })
    }

    /// Whether the task waits to start, or to be retried.
    pub fn is_pending(&self) -> bool {
        let view = self.view.as_ref();
        view.is_some_and(|view| view.state == TaskState::Pending)
    }

    /// Whether the time to live of the task has elapsed. Kubernetes deletes tasks without an owner.
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
        let is_over = view.state.is_final() && present.iter().all(Job::is_over);
        is_over && !self.is_terminating() && end.is_some_and(is_long_ago)
    }
}
