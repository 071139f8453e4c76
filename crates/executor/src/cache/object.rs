//! Kubernetes' objects as our own structs: the one place that digs in their fields, and drops what is not needed.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::JobCondition;
use task::definition::{MAX_NODES, MAX_RESTARTS, MAX_SECONDS};
use task::{Name, Recovery};

use super::identity::{Identity, Ignored, TaskKey, cut, number, text, time};
use super::phase::{self, Phase, Reason};
use super::turn::Turn;
use crate::kubernetes::{self, ObjectMeta};
use crate::labels::{self, Owner};

/// More attempts than a task can have: the pauses between them grow to minutes.
const MAX_ATTEMPT: u32 = 1_000_000;

/// How much is kept of a sentence of Kubernetes. An admission policy may write a long one.
const MAX_MESSAGE: usize = 2048;
const MAX_REASON: usize = 128;

/// Who tells why a pod does not come to run, as the events name it. What others tell about our objects is not shown: anybody
/// who may create events can.
const REPORTERS: &[&str] = &[
    "attachdetach-controller",
    "cluster-autoscaler",
    "default-scheduler",
    "job-controller",
    "karpenter",
    "kubelet",
    "kueue-admission",
    "node-controller",
    "persistentvolume-controller",
    "taint-eviction-controller",
];

/// Kubernetes' reason of a pod that somebody holds back from the scheduler
/// (<https://kubernetes.io/docs/concepts/scheduling-eviction/pod-scheduling-readiness/>).
pub(super) const GATED: &str = "SchedulingGated";

/// The Job of one node.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    pub uid: String,
    pub name: String,
    /// The task that it says it belongs to.
    pub key: Arc<TaskKey>,
    pub task_name: String,
    pub username: String,
    pub rank: u32,
    pub num_nodes: u32,
    pub created_at: Timestamp,
    /// The uid of the object that owns it.
    pub owned_by: Option<String>,
    /// The claims that its pods mount.
    pub claims: Vec<String>,
    pub fingerprint: Option<String>,
    /// The submission that its pods carry; none in those of older versions.
    pub pod_submission: Option<Box<str>>,
    pub end: Option<JobEnd>,
    /// The exit code of its container, when its pod was ended because another container went on.
    pub exit_code: Option<i32>,
    /// What keeps it from going, when it was deleted: its finalizers.
    pub terminating: Option<Box<str>>,
    /// Its version in Kubernetes, for changes that must not overrule another.
    pub version: String,
    /// Which attempt of the task it belongs to; 1 is the first.
    pub attempt: u32,
    /// How often the task had failed by itself before that attempt.
    pub restarts: u32,
    /// When the task is run again.
    pub recovery: Option<Box<Recovery>>,
    /// How many seconds its node may run.
    pub max_duration: Option<u32>,
    /// Within how many seconds its node must have a place.
    pub provision_timeout: Option<u32>,
    /// What kept it from one, when the time was over.
    pub provision_timed_out: Option<Box<str>>,
    /// How many seconds after its end the task is deleted.
    pub ttl_after_finished: Option<u32>,
    /// When Kubernetes has it from.
    pub made_at: Timestamp,
    /// When its controller began with it, or it was last resumed.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Whether it has no pods because somebody wants it so.
    pub suspended: bool,
    /// Kueue's queue that it waits in.
    pub queue: Option<Box<str>>,
    /// When its task gave its place to an earlier one, until it tries again.
    pub gave_way_at: Option<Timestamp>,
    /// How often that was.
    pub gave_way: u32,
    /// What its node waits for, when the nodes of the task start together.
    pub gang: Option<Gang>,
    /// The rank of the node whose failure it was ended for.
    pub ended_because_of: Option<u32>,
}

/// What the nodes of a task wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gang {
    /// That all of them run.
    Start,
    /// Also that the setup of all has ended.
    Setup,
}

/// How a Job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobEnd {
    Complete,
    Failed(Reason),
}

/// The object that owns the Jobs of a task.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskOwner {
    pub uid: String,
    pub name: String,
    pub key: Arc<TaskKey>,
    pub task_name: String,
    pub made_at: Timestamp,
    pub version: String,
    pub committed: bool,
    pub terminating: bool,
    pub deadline: Option<Timestamp>,
    pub fingerprint: Option<String>,
    pub num_nodes: u32,
    /// Which attempt its task is in; `None` when an older version made it.
    pub turn: Option<Turn>,
}

/// A pod of a node.
#[derive(Debug, Clone, PartialEq)]
pub struct Pod {
    pub uid: String,
    pub name: String,
    /// The Job that made it.
    pub job_uid: String,
    pub owner: Owner,
    pub submission: Option<Box<str>>,
    /// Its version in Kubernetes, for changes that must not overrule another.
    pub version: String,
    pub created_at: Timestamp,
    pub node_name: Option<String>,
    pub ip: Option<String>,
    pub phase: Phase,
    /// When the kubelet accepted it; its deadline counts from here.
    pub accepted_at: Option<Timestamp>,
    /// Whether another of its containers goes on after ours has ended.
    pub outlived: bool,
    /// Whether its deadline was set to end it now.
    pub is_told_to_end: bool,
    /// Whether its node may begin, and may run: the gates of a gang.
    pub may_begin: bool,
    pub may_run: bool,
    /// Of a gang with a setup: whether that has ended.
    pub ready: bool,
    pub terminating: bool,
    /// The rank of the node whose failure it was ended for.
    pub ended_because_of: Option<u32>,
}

/// The claim behind a volume.
#[derive(Debug, Clone, PartialEq)]
pub struct Volume {
    pub uid: String,
    pub claim: String,
    pub id: String,
    pub name: String,
    pub owner: Owner,
    pub username: String,
    pub size: String,
    pub storage_class: Option<String>,
    pub access_modes: Vec<String>,
    pub phase: String,
    pub created_at: Timestamp,
    pub made_at: Timestamp,
    pub terminating: bool,
}

/// What Kubernetes warns of about a Job or a pod.
#[derive(Debug, Clone, PartialEq)]
pub struct Warning {
    /// The uid of the Job or pod.
    pub about: String,
    pub reason: Reason,
}

/// Kubernetes' word for an event about a Job whose pod cannot be made.
pub(super) const FAILED_CREATE: &str = "FailedCreate";

impl Job {
    /// Its place among the Jobs of its task.
    pub fn place(&self) -> (u32, u32, &str) {
        (self.attempt, self.rank, &self.uid)
    }

    /// Whether nothing will become of it any more. One that is suspended when its task ends has no pods, and ends no further.
    pub fn is_over(&self) -> bool {
        let is_told_to_end = self.ended_because_of.is_some() || self.provision_timed_out.is_some();
        self.end.is_some() || self.exit_code.is_some() || (self.suspended && is_told_to_end)
    }

    /// Whether it waits because somebody wants it so.
    pub fn is_suspended(&self) -> bool {
        self.suspended && !self.is_over()
    }

    /// Reads a Job of a task.
    ///
    /// # Errors
    /// It is none that this program or the Python implementation could have made.
    pub fn from_resource(job: kubernetes::Job) -> Result<Self, Ignored> {
        let identity = Identity::read(&job.metadata, labels::TASK_ID, labels::TASK_NAME)?;
        let key = Arc::new(identity.key());
        let wishes = Wishes::read(&identity)?;
        let rank = number(identity.labels, labels::NODE_INDEX, MAX_NODES, "its rank is none")?.unwrap_or(0);
        let num_nodes = number(identity.annotations, labels::NUM_NODES, MAX_NODES, "its number of nodes is none")?;
        let num_nodes = num_nodes.unwrap_or(1).max(1);
        if rank >= num_nodes {
            return Err(Ignored("its rank is not one of its task"));
        }
        let attempt = wishes.attempt;
        // Kubernetes has each name once, so that nobody can put a second Job in the place of one.
        let expected = || Name::of(identity.name).map(|name| labels::job_name(&name, &key.id, rank, num_nodes, attempt));
        if !identity.is_python() && expected().is_none_or(|expected| expected != identity.object) {
            return Err(Ignored("its name does not follow from its task"));
        }
        let spec = job.spec.unwrap_or_default();
        let pod_metadata = spec.template.metadata.unwrap_or_default();
        let group_queue = pod_metadata.labels.and_then(|labels| text(&labels, labels::QUEUE, MAX_REASON));
        let pod_annotations = pod_metadata.annotations.unwrap_or_default();
        let volumes = spec.template.spec.and_then(|pod| pod.volumes).into_iter().flatten();
        let claims = volumes
            .filter_map(|volume| volume.persistent_volume_claim)
            .map(|source| source.claim_name)
            .collect();
        let status = job.status.unwrap_or_default();
        let job_end = job_end(status.conditions.as_deref().unwrap_or_default());
        Ok(Self {
            rank,
            num_nodes,
            owned_by: owner_uid(&job.metadata, "ConfigMap"),
            claims,
            fingerprint: identity.annotations.get(labels::FINGERPRINT).cloned(),
            pod_submission: labels::submission(&pod_annotations).map(Into::into),
            started_at: status.start_time.as_ref().map(|time| time.0),
            ended_at: job_end.as_ref().and_then(|(_, at)| *at),
            end: job_end.map(|(end, _)| end),
            exit_code: wishes.exit_code,
            terminating: terminating(&job.metadata),
            version: job.metadata.resource_version.clone().unwrap_or_default(),
            max_duration: wishes.max_duration,
            provision_timeout: wishes.provision_timeout,
            provision_timed_out: text(wishes.of, labels::PROVISION_TIMED_OUT, MAX_MESSAGE),
            ttl_after_finished: wishes.ttl_after_finished,
            made_at: identity.made_at,
            suspended: spec.suspend.unwrap_or(false),
            queue: text(identity.labels, labels::QUEUE, MAX_REASON).or(group_queue),
            gave_way_at: time(wishes.of, labels::GAVE_WAY_AT),
            gave_way: wishes.gave_way,
            attempt,
            restarts: wishes.restarts,
            recovery: wishes.recovery,
            gang: wishes.gang,
            ended_because_of: wishes.ended_because_of,
            uid: identity.uid.to_owned(),
            name: identity.object.to_owned(),
            key,
            task_name: identity.name.to_owned(),
            username: identity.username.to_owned(),
            created_at: identity.created_at,
        })
    }
}

/// What the annotations of a Job want to be done with it.
struct Wishes<'a> {
    of: &'a BTreeMap<String, String>,
    attempt: u32,
    restarts: u32,
    max_duration: Option<u32>,
    provision_timeout: Option<u32>,
    ttl_after_finished: Option<u32>,
    gave_way: u32,
    recovery: Option<Box<Recovery>>,
    gang: Option<Gang>,
    ended_because_of: Option<u32>,
    exit_code: Option<i32>,
}

impl<'a> Wishes<'a> {
    /// The Python implementation has none of them: on its Jobs somebody else wrote them.
    fn read(identity: &Identity<'a>) -> Result<Self, Ignored> {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        let of = if identity.is_python() { &NONE } else { identity.annotations };
        let seconds = |key| number(of, key, MAX_SECONDS, "one of its times is none");
        let codes = of.get(labels::RECOVER_ON).map_or("", String::as_str);
        let restarts = number(of, labels::MAX_RESTARTS, MAX_RESTARTS, "its restarts are none")?;
        let mut recover_on_exit_codes: Vec<u8> = codes.split(',').filter_map(|code| code.parse().ok()).collect();
        recover_on_exit_codes.sort_unstable();
        recover_on_exit_codes.dedup();
        Ok(Self {
            of,
            attempt: number(of, labels::ATTEMPT, MAX_ATTEMPT, "its attempt is none")?.unwrap_or(1).max(1),
            restarts: number(of, labels::RESTARTS, MAX_RESTARTS, "its restarts are none")?.unwrap_or(0),
            max_duration: seconds(labels::MAX_DURATION)?,
            provision_timeout: seconds(labels::PROVISION_TIMEOUT)?,
            ttl_after_finished: seconds(labels::TTL_AFTER_FINISHED)?,
            gave_way: number(of, labels::GAVE_WAY, MAX_ATTEMPT, "how often it gave way is none")?.unwrap_or(0),
            recovery: restarts.map(|max_restarts_on_errors| {
                Box::new(Recovery {
                    max_restarts_on_errors,
                    recover_on_exit_codes,
                })
            }),
            gang: match of.get(labels::GANG).map(String::as_str) {
                Some(labels::GANG_START) => Some(Gang::Start),
                Some(labels::GANG_SETUP) => Some(Gang::Setup),
                _ => None,
            },
            ended_because_of: number(of, labels::ENDED_BECAUSE_OF, MAX_NODES, "the node it ended for is none")?,
            exit_code: of.get(labels::EXIT_CODE).and_then(|code| code.parse().ok()),
        })
    }
}

/// The finalizers of an object that was deleted, for a person.
fn terminating(metadata: &ObjectMeta) -> Option<Box<str>> {
    metadata.deletion_timestamp.as_ref()?;
    let finalizers = metadata.finalizers.as_deref().unwrap_or_default().join("`, `");
    Some(cut(&finalizers, MAX_MESSAGE).into())
}

impl TaskOwner {
    /// Reads the owner of a task.
    ///
    /// # Errors
    /// It is none that this program could have made.
    pub fn from_metadata(metadata: &ObjectMeta) -> Result<Self, Ignored> {
        let identity = Identity::read(metadata, labels::TASK_ID, labels::TASK_NAME)?;
        let token = identity.submission.ok_or(Ignored("it has no submission"))?;
        let is_of_key = labels::is_key_token(token) && identity.object == labels::key_object_name(token);
        let of_name = Name::of(identity.name).map(|name| name.object_name(identity.id));
        if !is_of_key && of_name.is_none_or(|name| name != identity.object) {
            return Err(Ignored("its name does not follow from its task"));
        }
        let turn = identity.annotations.get(labels::TURN);
        let num_nodes = number(identity.annotations, labels::NUM_NODES, MAX_NODES, "its number of nodes is none")?;
        Ok(Self {
            num_nodes: num_nodes.unwrap_or(1).max(1),
            uid: identity.uid.to_owned(),
            name: identity.object.to_owned(),
            key: Arc::new(identity.key()),
            task_name: identity.name.to_owned(),
            made_at: identity.made_at,
            version: metadata.resource_version.clone().unwrap_or_default(),
            committed: identity.annotations.contains_key(labels::COMMITTED),
            terminating: metadata.deletion_timestamp.is_some(),
            deadline: time(identity.annotations, labels::SUBMIT_DEADLINE),
            fingerprint: identity.annotations.get(labels::FINGERPRINT).cloned(),
            turn: turn.map(|turn| turn.parse()).transpose()?,
        })
    }
}

impl TaskOwner {
    /// Whether this is a later state. Versions are numbers that grow
    /// (<https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions>).
    pub fn is_newer_than(&self, other: &Self) -> bool {
        let number = |owner: &Self| owner.version.parse::<u64>().ok();
        number(self).zip(number(other)).is_some_and(|(this, other)| this > other)
    }

    /// Whether this Job was made under it: its name and attempt follow from it, so that there is one of each.
    pub fn owns(&self, job: &Job) -> bool {
        let is_known = self.turn.is_none_or(|turn| job.attempt <= turn.attempt);
        is_known && job.owned_by.as_ref() == Some(&self.uid) && job.task_name == self.task_name && job.key == self.key
    }
}

impl Pod {
    /// Reads a pod of a node.
    ///
    /// # Errors
    /// No Job made it.
    pub fn from_resource(pod: kubernetes::Pod) -> Result<Self, Ignored> {
        let job_uid = owner_uid(&pod.metadata, "Job").ok_or(Ignored("no Job made it"))?;
        let metadata = pod.metadata;
        let owner = metadata.labels.as_ref().and_then(Owner::from_labels).ok_or(Ignored("it has no user"))?;
        let (Some(uid), Some(name), Some(created_at)) = (metadata.uid, metadata.name, metadata.creation_timestamp) else {
            return Err(Ignored("it has no uid, name or time of creation"));
        };
        let annotations = metadata.annotations.unwrap_or_default();
        let status = pod.status.unwrap_or_default();
        let spec = pod.spec.unwrap_or_default();
        let grace = SignedDuration::from_secs(metadata.deletion_grace_period_seconds.unwrap_or(0));
        let deleted_at = metadata.deletion_timestamp.map(|time| time.0.checked_sub(grace).unwrap_or(time.0));
        let circumstances = phase::Circumstances {
            deadline_seconds: spec.active_deadline_seconds,
            deleted_at,
            is_outlived: annotations.contains_key(labels::EXIT_CODE),
        };
        Ok(Self {
            may_begin: annotations.contains_key(labels::NODE_IPS),
            may_run: annotations.contains_key(labels::RUN),
            accepted_at: status.start_time.as_ref().map(|time| time.0),
            ready: phase::is_ready(&status),
            terminating: deleted_at.is_some(),
            ended_because_of: number(&annotations, labels::ENDED_BECAUSE_OF, MAX_NODES, "the node it ended for is none")?,
            outlived: phase::is_outlived(&status),
            is_told_to_end: spec.active_deadline_seconds == Some(1),
            phase: phase::of(&status, circumstances),
            submission: labels::submission(&annotations).map(Into::into),
            version: metadata.resource_version.unwrap_or_default(),
            uid,
            name,
            job_uid,
            owner,
            created_at: created_at.0,
            node_name: spec.node_name,
            ip: status.pod_ip.clone(),
        })
    }

    /// Whether this Job made it: the pod carries what the Job's template does. Without it, somebody else wrote the reference.
    pub fn is_of(&self, job: &Job) -> bool {
        self.job_uid == job.uid && self.owner == job.key.owner && self.submission == job.pod_submission
    }

    /// Whether somebody holds it back from the scheduler, such as a queue.
    pub fn is_gated(&self) -> bool {
        self.is_pending_for(GATED)
    }

    /// Whether the scheduler has found no place for it.
    pub fn is_unschedulable(&self) -> bool {
        self.is_pending_for("Unschedulable")
    }

    fn is_pending_for(&self, why: &str) -> bool {
        matches!(&self.phase, Phase::Pending(Some(reason)) if reason.reason == why)
    }

    /// Whether its container runs, or has run: whether it can have a log.
    pub fn has_log(&self) -> bool {
        match &self.phase {
            Phase::Pending(_) => false,
            Phase::Running { .. } => true,
            Phase::Ended(end) => end.has_run,
        }
    }
}

impl Volume {
    /// Reads the claim of a volume.
    ///
    /// # Errors
    /// It is none that this program or the Python implementation could have made.
    pub fn from_resource(claim: kubernetes::PersistentVolumeClaim) -> Result<Self, Ignored> {
        let identity = Identity::read(&claim.metadata, labels::VOLUME_ID, labels::VOLUME_NAME)?;
        let terminating = claim.metadata.deletion_timestamp.is_some();
        let spec = claim.spec.unwrap_or_default();
        let size = spec
            .resources
            .and_then(|resources| resources.requests)
            .and_then(|mut requests| requests.remove("storage"))
            .map(|size| size.0);
        Ok(Self {
            uid: identity.uid.to_owned(),
            claim: identity.object.to_owned(),
            id: identity.id.to_owned(),
            name: identity.name.to_owned(),
            owner: identity.owner,
            username: identity.username.to_owned(),
            made_at: identity.made_at,
            size: size.unwrap_or_default(),
            storage_class: spec.storage_class_name,
            access_modes: spec.access_modes.unwrap_or_default(),
            phase: claim
                .status
                .and_then(|status| status.phase)
                .unwrap_or_else(|| "Pending".to_owned()),
            created_at: identity.created_at,
            terminating,
        })
    }
}

impl Warning {
    /// Reads an event about a Job or a pod.
    ///
    /// # Errors
    /// It is about something else, or none of those tell it who know.
    pub fn from_resource(event: kubernetes::Event) -> Result<Self, Ignored> {
        let source = event.source.and_then(|source| source.component);
        let reporter = source.filter(|source| !source.is_empty()).or(event.reporting_component);
        let is_known = reporter.is_some_and(|reporter| REPORTERS.contains(&reporter.as_str()));
        let about = event.involved_object;
        if !is_known || !matches!(about.kind.as_deref(), Some("Job" | "Pod")) {
            return Err(Ignored("none of those tell it who know"));
        }
        let (Some(about), Some(reason), Some(message)) = (about.uid, event.reason, event.message) else {
            return Err(Ignored("it says nothing"));
        };
        Ok(Self {
            about,
            reason: Reason::new(cut(&reason, MAX_REASON), cut(&message, MAX_MESSAGE)),
        })
    }
}

fn owner_uid(metadata: &ObjectMeta, kind: &str) -> Option<String> {
    metadata
        .owner_references
        .iter()
        .flatten()
        .find(|owner| owner.kind == kind && (kind != "Job" || owner.controller == Some(true)))
        .map(|owner| owner.uid.clone())
}

/// How a Job ended, and when.
///
/// One that has failed says so when all of its pods are gone, which those of a lost machine never are; before that it says
/// that it will (`FailureTarget`, since Kubernetes 1.31).
fn job_end(conditions: &[JobCondition]) -> Option<(JobEnd, Option<Timestamp>)> {
    let found = |kind: &str| {
        let is_true = |condition: &&JobCondition| condition.type_ == kind && condition.status == "True";
        conditions.iter().find(is_true)
    };
    let at = |condition: &JobCondition| condition.last_transition_time.as_ref().map(|time| time.0);
    if let Some(complete) = found("Complete") {
        return Some((JobEnd::Complete, at(complete)));
    }
    let failed = found("Failed").or_else(|| found("FailureTarget"))?;
    let reason = Reason::new(
        failed.reason.clone().unwrap_or_else(|| "Failed".to_owned()),
        failed.message.clone().unwrap_or_default(),
    );
    Some((JobEnd::Failed(reason), at(failed)))
}
