//! The objects of one task: which of those that claim to belong to it do, and what follows from them.

use std::sync::Arc;

use jiff::Timestamp;
use task::TaskState;
use tokio::sync::watch;

use super::attempts::Attempts;
use super::change_log::Announced;
use super::group_member::GroupKey;
use super::job::Job;
use super::members::Members;
use super::object::{Pod, TaskOwner};
use super::snapshot::TaskSnapshot;
use super::turn::Stage;

/// All objects with the key of one task.
#[derive(Default)]
pub(crate) struct Task {
    /// The Jobs of the task, by attempt and rank.
    pub jobs: Vec<Job>,
    /// Jobs that have the key but don't belong to the task.
    foreign_jobs: Vec<Job>,
    pub pods: Vec<Pod>,
    /// ConfigMaps that have the key and may own the Jobs.
    owners: Vec<TaskOwner>,
    /// The uid of the one that does.
    accepted_owner: Option<String>,
    pub snapshot: Option<Arc<TaskSnapshot>>,
    pub subscribers: Option<watch::Sender<()>>,
    /// The creation time under which the task is in its user's list.
    pub listed: Option<Timestamp>,
    /// What the change log last told about it.
    pub(super) announced: Option<Announced>,
    /// The group under which the task is indexed.
    pub group: Option<GroupKey>,
}

impl Task {
    pub(crate) fn apply_job(&mut self, job: Job) {
        self.detach_job(&job.uid);
        // Most tasks have one Job, and a first push would allocate room for four.
        if self.jobs.is_empty() {
            self.jobs.reserve_exact(1);
        }
        let index = self.jobs.partition_point(|known| known.sort_key() < job.sort_key());
        self.jobs.insert(index, job);
        self.update_members();
    }

    /// Removes a Job or an owner.
    pub(crate) fn remove(&mut self, uid: &str) {
        self.detach_job(uid);
        self.owners.retain(|known| known.uid != uid);
        self.update_members();
    }

    /// Adds or replaces an owner. The response to a patch may be ahead of the watch, so an older state is ignored.
    pub(crate) fn apply_owner(&mut self, owner: TaskOwner) {
        if self
            .owners
            .iter()
            .any(|known| known.uid == owner.uid && known.is_newer_than(&owner))
        {
            return;
        }
        self.owners.retain(|known| known.uid != owner.uid);
        self.owners.push(owner);
        self.update_members();
    }

    pub(crate) fn apply_pod(&mut self, pod: Pod) {
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
    pub(crate) fn all_jobs(&self) -> impl Iterator<Item = &Job> {
        self.jobs.iter().chain(&self.foreign_jobs)
    }

    /// All ConfigMaps with the key.
    pub(crate) fn owners(&self) -> &[TaskOwner] {
        &self.owners
    }

    pub(crate) fn job_mut(&mut self, uid: &str) -> Option<&mut Job> {
        self.jobs
            .iter_mut()
            .chain(&mut self.foreign_jobs)
            .find(|job| job.uid == uid)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.jobs.is_empty() && self.foreign_jobs.is_empty() && self.pods.is_empty() && self.owners.is_empty()
    }

    /// The owner of the Jobs. A single Job has none, even if a ConfigMap has the same key.
    pub(crate) fn owner(&self) -> Option<&TaskOwner> {
        let accepted_owner = self.accepted_owner.as_ref()?;
        self.owners.iter().find(|owner| owner.uid == *accepted_owner)
    }

    fn detach_job(&mut self, uid: &str) {
        self.jobs.retain(|job| job.uid != uid);
        self.foreign_jobs.retain(|job| job.uid != uid);
    }

    /// Decides which of the Jobs belong to the task, and what owns them.
    fn update_members(&mut self) {
        let members = Members::of(&self.owners, self.jobs.iter().chain(&self.foreign_jobs));
        let accepted_owner = members.owner().map(|owner| owner.uid.clone());
        let is_right = self.jobs.iter().all(|job| members.include(job))
            && !self.foreign_jobs.iter().any(|job| members.include(job));
        if !is_right {
            let is_member: Vec<bool> = self
                .jobs
                .iter()
                .chain(&self.foreign_jobs)
                .map(|job| members.include(job))
                .collect();
            let all = std::mem::take(&mut self.jobs)
                .into_iter()
                .chain(std::mem::take(&mut self.foreign_jobs));
            for (job, is_member) in all.zip(is_member) {
                if is_member {
                    self.jobs.push(job)
                } else {
                    self.foreign_jobs.push(job)
                }
            }
            self.jobs
                .sort_unstable_by(|left, right| left.sort_key().cmp(&right.sort_key()));
        }
        self.accepted_owner = accepted_owner;
    }

    /// The Jobs of the current attempt.
    pub(crate) fn current_jobs(&self) -> &[Job] {
        Attempts::of(&self.jobs).current
    }

    /// Whether the task has ended, and so have all Jobs of its current attempt, which is then its last.
    pub(crate) fn is_over(&self) -> bool {
        let is_final = self.snapshot.as_ref().is_some_and(|snapshot| snapshot.state.is_final());
        is_final && self.current_jobs().iter().all(Job::is_over)
    }

    /// Whether users can see the task: it has Jobs, and their owner is committed.
    pub(crate) fn is_visible(&self) -> bool {
        let is_owned = self.jobs.first().is_some_and(|job| job.owned_by.is_some());
        !self.jobs.is_empty() && (!is_owned || self.owner().is_none_or(|owner| owner.committed))
    }

    /// Whether the task was deleted but finalizers still hold its owner or all Jobs of its current attempt. A single
    /// deleted Job of a gang, or the Jobs of earlier attempts, don't count.
    pub(crate) fn is_terminating(&self) -> bool {
        let current = self.current_jobs();
        let are_going = !current.is_empty() && current.iter().all(|job| job.terminating.is_some());
        are_going || self.owner().is_some_and(|owner| owner.terminating)
    }

    /// Whether the task is shown as ended, or is being deleted. One that will be retried is shown as pending.
    pub(crate) fn has_ended(&self) -> bool {
        let has_ended = |snapshot: &Arc<TaskSnapshot>| snapshot.state.is_final() || snapshot.terminating;
        self.snapshot.as_ref().is_some_and(has_ended)
    }

    /// Whether the same is true of all of its nodes: the first failure ends a task, and its other nodes a moment later.
    pub(crate) fn have_nodes_ended(&self) -> bool {
        let have_ended = |snapshot: &Arc<TaskSnapshot>| {
            snapshot.terminating || snapshot.state.is_final() && snapshot.nodes.iter().all(|node| node.ended)
        };
        self.snapshot.as_ref().is_some_and(have_ended)
    }

    /// Whether the user canceled the task.
    pub(crate) fn is_cancelled(&self) -> bool {
        is_cancelled(self.owner(), self.current_jobs())
    }

    /// Whether the task waits to start, or to be retried.
    pub(crate) fn is_pending(&self) -> bool {
        let snapshot = self.snapshot.as_ref();
        snapshot.is_some_and(|snapshot| snapshot.state == TaskState::Pending)
    }
}

/// Whether a task was canceled, as its owner records, or else its Job.
pub(crate) fn is_cancelled<'a>(owner: Option<&TaskOwner>, jobs: impl IntoIterator<Item = &'a Job>) -> bool {
    let turn = owner.and_then(|owner| owner.turn);
    turn.is_some_and(|turn| turn.stage == Stage::Cancelled) || jobs.into_iter().any(|job| job.cancelled)
}
