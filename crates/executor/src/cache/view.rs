//! A task as requests see it: aggregated and encoded once, shared by all readers.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use task::State;
use task::status::TaskStatus;

use super::aggregate;
use super::identity::TaskKey;
use super::job::Job;
use super::object::Pod;
use super::phase::Phase;
use super::recovery::{self, Restart};
use super::task::Task;
use super::warnings::Warnings;

/// A task at one moment.
#[derive(Debug)]
pub struct View {
    /// Which task it is.
    pub key: Arc<TaskKey>,
    /// The exact name of its user.
    pub username: String,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When Kubernetes has its first Job from.
    pub made_at: Timestamp,
    /// Its state.
    pub state: State,
    /// Its status, as JSON.
    pub json: Bytes,
    /// When it last changed, as in `json`.
    pub(super) updated_at: String,
    /// How many nodes it has; decides whether log lines have a prefix.
    pub num_nodes: u32,
    /// Its Jobs, in rank order: name and uid.
    pub jobs: Vec<(String, String)>,
    /// The object that owns the Jobs: name and uid.
    pub owned_by: Option<(String, String)>,
    /// Its nodes' pods, by attempt and rank.
    pub nodes: Vec<NodePod>,
    /// Whether it may be run again after a failure.
    pub recovers: bool,
    /// That it has failed, and will be.
    pub restart: Option<Restart>,
    /// Whether somebody has deleted it, and something keeps it from going.
    pub terminating: bool,
    /// Whether what owns its Jobs was deleted, so that they have to go as well.
    pub is_disowned: bool,
}

/// What the view of a task depends on beside its objects.
pub(super) struct Context<'a> {
    pub warnings: &'a Warnings,
    pub namespace: &'a str,
    pub now: Timestamp,
    /// The view before the change; its time is kept when nothing else changed.
    pub previous: Option<&'a Arc<View>>,
    /// What keeps the task from going on, when we could not do something.
    pub obstacle: Option<&'a str>,
}

/// Where the log of one node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodePod {
    /// The node.
    pub rank: u32,
    /// The attempt.
    pub attempt: u32,
    /// Its newest pod with a log: name and uid.
    pub pod: Option<(String, String)>,
    /// Whether nothing will be written any more.
    pub ended: bool,
}

impl View {
    /// The view of a task, or `None` when it has no Jobs.
    pub(super) fn build(key: &Arc<TaskKey>, task: &Task, context: &Context<'_>) -> Option<Arc<Self>> {
        let (jobs, namespace) = (Attempts::of(&task.jobs), context.namespace);
        let warning = |uid: &str| context.warnings.get(uid);
        let first = jobs.present.first()?;
        let newest = newest_pods(&task.pods);
        let since = match context.previous {
            Some(previous) => previous.updated_at.clone(),
            None => task::time::format(last_change(jobs, &newest, context.now)),
        };
        let mut status = aggregate::status(jobs.present, jobs.before(), &newest, warning, namespace, since);
        let terminating = task.is_terminating();
        let restart = recovery::restart(&status, jobs.present).filter(|_| !terminating);
        if restart.is_some() {
            recovery::say_recovering(&mut status);
        }
        if let Some(obstacle) = context.obstacle {
            aggregate::say_obstacle(&mut status, obstacle);
        }
        if terminating {
            aggregate::say_terminating(&mut status, jobs.present);
        }
        for attempt in jobs.earlier.chunk_by(|left, right| left.attempt == right.attempt) {
            let of_it = aggregate::status(attempt, &[], &newest, warning, namespace, String::new());
            status.metadata.attempts.push(recovery::earlier(of_it));
        }
        let mut json = encode(&status);
        if context.previous.is_some_and(|previous| previous.json != json) {
            status.updated_at = task::time::format(context.now);
            json = encode(&status);
        }
        let all = || jobs.earlier.iter().chain(jobs.present);
        let nodes = all()
            .map(|job| NodePod::of(job, newest.get(job.uid.as_str()).copied(), jobs.is_earlier(job)))
            .collect();
        let owner = task.owner().filter(|_| first.owned_by.is_some());
        Some(Arc::new(Self {
            key: Arc::clone(key),
            username: first.username.clone(),
            created_at: first.created_at,
            made_at: owner.map_or(first.made_at, |owner| owner.made_at),
            state: status.status,
            json,
            updated_at: status.updated_at,
            num_nodes: status.metadata.num_nodes,
            jobs: all().map(|job| (job.name.clone(), job.uid.clone())).collect(),
            owned_by: owner.map(|owner| (owner.name.clone(), owner.uid.clone())),
            nodes,
            recovers: first.recovery.is_some(),
            restart,
            terminating,
            is_disowned: owner.is_some_and(|owner| owner.terminating),
        }))
    }
}

/// The Jobs of a task, by attempt and rank.
#[derive(Clone, Copy)]
pub(super) struct Attempts<'a> {
    /// Of attempts that were followed by another.
    pub earlier: &'a [Job],
    /// Of the newest one.
    pub present: &'a [Job],
}

impl<'a> Attempts<'a> {
    /// Finds the newest attempt among Jobs in their order.
    pub fn of(jobs: &'a [Job]) -> Self {
        let newest = jobs.last().map_or(1, |job| job.attempt);
        let (earlier, present) = jobs.split_at(jobs.partition_point(|job| job.attempt < newest));
        Self { earlier, present }
    }

    /// The Jobs of the attempt before: what is not made of the present one will be made of these.
    pub fn before(self) -> &'a [Job] {
        let number = self.number().saturating_sub(1);
        &self.earlier[self.earlier.partition_point(|job| job.attempt < number)..]
    }

    /// The Jobs of attempts that are at least so many before the present one.
    pub fn at_least(self, ago: u32) -> &'a [Job] {
        let number = self.number();
        &self.earlier[..self.earlier.partition_point(|job| job.attempt + ago <= number)]
    }

    fn number(self) -> u32 {
        self.present.first().map_or(0, |job| job.attempt)
    }

    fn is_earlier(self, job: &Job) -> bool {
        job.attempt < self.number()
    }
}

impl NodePod {
    fn of(job: &Job, pod: Option<&Pod>, is_earlier: bool) -> Self {
        Self {
            rank: job.rank,
            attempt: job.attempt,
            pod: pod
                .filter(|pod| pod.has_log())
                .map(|pod| (pod.name.clone(), pod.uid.clone())),
            ended: match pod {
                Some(pod) => matches!(pod.phase, Phase::Ended(_)),
                None => job.is_over() || is_earlier,
            },
        }
    }
}

fn encode(status: &TaskStatus) -> Bytes {
    // Without the room that writing left behind: there are as many of these as there are tasks.
    Bytes::from(
        serde_json::to_vec(status)
            .expect("a status is plain data")
            .into_boxed_slice(),
    )
}

/// When a task that was not known before has last changed, as Kubernetes has it: any server says the same of it.
fn last_change(jobs: Attempts<'_>, pods: &HashMap<&str, &Pod>, now: Timestamp) -> Timestamp {
    let of_pod = |pod: &Pod| match &pod.phase {
        Phase::Pending(_) => None,
        Phase::Running { since } => *since,
        Phase::Ended(end) => end.finished_at,
    };
    let of_job = |job: &Job| {
        let pod = pods.get(job.uid.as_str()).and_then(|pod| of_pod(pod));
        job.ended_at.max(pod).unwrap_or(job.created_at).max(job.created_at)
    };
    let times = jobs.earlier.iter().chain(jobs.present).map(of_job);
    times.max().unwrap_or(now)
}

/// The newest pod of each Job, by the Job's uid.
pub(super) fn newest_pods(pods: &[Pod]) -> HashMap<&str, &Pod> {
    let mut newest: HashMap<&str, &Pod> = HashMap::with_capacity(pods.len());
    for pod in pods {
        let kept = newest.entry(&pod.job_uid).or_insert(pod);
        if (pod.created_at, &pod.uid) > (kept.created_at, &kept.uid) {
            *kept = pod;
        }
    }
    newest
}
