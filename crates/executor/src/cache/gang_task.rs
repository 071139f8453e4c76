//! A task as the controllers see it: its Jobs in rank order, each with its newest pod.

use jiff::{SignedDuration, Timestamp};

use super::aggregate;
use super::attempts::{Attempts, newest_pods};
use super::job::Job;
use super::members::Members;
use super::object::{Pod, TaskOwner};
use super::recovery::{self, Restart};
use super::turn::{Stage, Turn};

/// How many earlier attempts keep their Jobs, with the logs of their pods. Without a limit, a task that is preempted
/// every hour would fill the namespace.
pub const KEPT_ATTEMPTS: u32 = 10;

/// How far the clocks of the server and of Kubernetes may disagree about when a task was submitted.
const AGREEMENT: SignedDuration = SignedDuration::from_mins(1);

/// A task that a controller works on: a gang, or a task that may be retried or has a provisioning timeout.
#[derive(Debug, Clone, Default)]
pub struct GangTask {
    /// How many nodes the task has. There may be fewer Jobs while some are still being created.
    pub num_nodes: u32,
    /// The nodes of the current attempt.
    pub nodes: Vec<(Job, Option<Pod>)>,
    /// The Jobs of the previous attempt.
    pub before: Vec<Job>,
    /// The Jobs of attempts that are too old to keep.
    pub outdated: Vec<Job>,
    /// Set if the current attempt has failed and the next one can start.
    pub restart: Option<Restart>,
    /// The owner of the Jobs.
    pub owner: Option<TaskOwner>,
    /// Whether Kubernetes refuses to create one of its pods, e.g., because of a quota.
    pub is_refused: bool,
}

impl GangTask {
    /// Assembles a task from its objects, in any order. Drops Jobs and pods that only claim to belong to it.
    pub fn of(owner: Option<TaskOwner>, mut jobs: Vec<Job>, pods: &[Pod], num_nodes: u32) -> Self {
        let members = Members::of(owner.as_slice(), jobs.iter());
        let is_member: Vec<bool> = jobs.iter().map(|job| members.include(job)).collect();
        let mut is_member = is_member.into_iter();
        jobs.retain(|_| is_member.next().unwrap_or(false));
        jobs.sort_unstable_by(|left, right| left.place().cmp(&right.place()));
        let attempts = Attempts::of(&jobs);
        Self {
            owner,
            restart: restart(attempts, pods),
            ..Self::of_attempts(attempts, pods, num_nodes)
        }
    }

    /// The current turn according to the owner. Owners created by older versions record none, so it is derived from the
    /// Jobs.
    pub fn turn(&self) -> Turn {
        let told = self.owner.as_ref().and_then(|owner| owner.turn);
        let turn = told.unwrap_or(Turn {
            attempt: self.nodes.first().map_or(1, |(job, _)| job.attempt),
            stage: Stage::Waiting,
        });
        if turn.stage != Stage::Waiting {
            return turn;
        }
        // A delayed suspend may arrive after the owner was reset. Such a Job must still be resumed, so the task still
        // counts as giving way.
        let gave_way = self.nodes.iter().filter(|(job, _)| job.is_suspended());
        let gave_way = gave_way
            .filter_map(|(job, _)| Some((job.gave_way_at?, job.gave_way)))
            .max();
        turn.at(gave_way.map_or(Stage::Waiting, |(at, times)| Stage::GaveWay { times, at }))
    }

    /// When the task was submitted, for ordering tasks. The annotation has fractions of a second, but anybody can edit
    /// it, so it counts only if it roughly agrees with Kubernetes.
    pub fn submitted_at(&self) -> Timestamp {
        let Some((job, _)) = self.nodes.first() else {
            return Timestamp::MAX;
        };
        let made_at = self.owner.as_ref().map_or(job.made_at, |owner| owner.made_at);
        let is_near = job.created_at.duration_since(made_at).abs() <= AGREEMENT;
        if is_near { job.created_at } else { made_at }
    }

    /// Whether the start gate is open or about to be opened.
    pub fn has_begun(&self) -> bool {
        let may_begin = |pod: &Option<Pod>| pod.as_ref().is_some_and(|pod| pod.may_begin);
        self.turn().stage == Stage::Begun || self.nodes.iter().any(|(_, pod)| may_begin(pod))
    }

    pub(super) fn of_attempts(jobs: Attempts<'_>, pods: &[Pod], num_nodes: u32) -> Self {
        let newest = newest_pods(pods);
        let pod = |job: &Job| {
            newest
                .get(job.uid.as_str())
                .map(|pod| (*pod).clone())
                .filter(|pod| pod.is_of(job))
        };
        Self {
            num_nodes,
            nodes: jobs.present.iter().map(|job| (job.clone(), pod(job))).collect(),
            before: jobs.before().to_vec(),
            outdated: jobs.at_least(KEPT_ATTEMPTS).to_vec(),
            ..Self::default()
        }
    }
}

/// The retry of the current attempt, if it can start now.
fn restart(jobs: Attempts<'_>, pods: &[Pod]) -> Option<Restart> {
    jobs.present.first()?;
    let newest = newest_pods(pods);
    let status = aggregate::status(jobs.present, jobs.before(), &newest, |_| None, "", String::new());
    recovery::restart(&status, jobs.present).filter(|restart| restart.is_due)
}
