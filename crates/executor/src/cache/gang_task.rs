//! A task as those see it who look after it: its Jobs in rank order, each with its newest pod.

use jiff::{SignedDuration, Timestamp};

use super::aggregate;
use super::attempts::{Attempts, newest_pods};
use super::job::Job;
use super::members::Members;
use super::object::{Pod, TaskOwner};
use super::recovery::{self, Restart};
use super::turn::{Stage, Turn};

/// How many attempts keep their Jobs, with the logs of their pods. A task that is preempted every hour must not fill a namespace.
pub const KEPT_ATTEMPTS: u32 = 10;

/// How far two clocks may differ that say when a task was submitted.
const AGREEMENT: SignedDuration = SignedDuration::from_mins(1);

/// A task that is looked after: its nodes start together, or it may be run again, or does not wait for ever.
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
    /// What owns its Jobs.
    pub owner: Option<TaskOwner>,
    /// Whether Kubernetes refuses to make one of its pods, such as for a quota.
    pub is_refused: bool,
}

impl GangTask {
    /// Puts together what Kubernetes has of a task, in any order. Jobs and pods that only claim to belong to it are left out.
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

    /// Where the task stands, as its owner says it. In what an older version has made the Jobs say it.
    pub fn turn(&self) -> Turn {
        let told = self.owner.as_ref().and_then(|owner| owner.turn);
        let turn = told.unwrap_or(Turn {
            attempt: self.nodes.first().map_or(1, |(job, _)| job.attempt),
            stage: Stage::Waiting,
        });
        if turn.stage != Stage::Waiting {
            return turn;
        }
        // A Job that was suspended so late that its task was already trying again: it has to be resumed all the same.
        let gave_way = self.nodes.iter().filter(|(job, _)| job.is_suspended());
        let gave_way = gave_way
            .filter_map(|(job, _)| Some((job.gave_way_at?, job.gave_way)))
            .max();
        turn.at(gave_way.map_or(Stage::Waiting, |(at, times)| Stage::GaveWay { times, at }))
    }

    /// When it was submitted, for who comes first: as its annotation says it to a fraction of a second, if Kubernetes agrees.
    pub fn submitted_at(&self) -> Timestamp {
        let Some((job, _)) = self.nodes.first() else {
            return Timestamp::MAX;
        };
        let made_at = self.owner.as_ref().map_or(job.made_at, |owner| owner.made_at);
        let is_near = job.created_at.duration_since(made_at).abs() <= AGREEMENT;
        if is_near { job.created_at } else { made_at }
    }

    /// Whether its nodes may begin, or soon may, whatever else is seen of them.
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

/// Whether the next attempt can begin.
fn restart(jobs: Attempts<'_>, pods: &[Pod]) -> Option<Restart> {
    jobs.present.first()?;
    let newest = newest_pods(pods);
    let status = aggregate::status(jobs.present, jobs.before(), &newest, |_| None, "", String::new());
    recovery::restart(&status, jobs.present).filter(|restart| restart.is_due)
}
