//! Kubernetes' objects as our own structs: the one place that digs in their fields, and drops what is not needed.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::JobCondition;
use task::Recovery;

use super::phase::{self, Phase, Reason};
use crate::kubernetes::{self, ObjectMeta};
use crate::labels::{self, Owner};

/// Kubernetes' reason of a pod that somebody holds back from the scheduler
/// (<https://kubernetes.io/docs/concepts/scheduling-eviction/pod-scheduling-readiness/>).
pub(super) const GATED: &str = "SchedulingGated";

/// The Job of one node.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    pub uid: String,
    pub name: String,
    pub task_id: String,
    pub task_name: String,
    pub owner: Owner,
    pub username: String,
    pub rank: u32,
    pub num_nodes: u32,
    pub created_at: Timestamp,
    /// The uid of the object that owns it.
    pub owned_by: Option<String>,
    /// The claims that its pods mount.
    pub claims: Vec<String>,
    pub submission: Option<String>,
    pub fingerprint: Option<String>,
    pub end: Option<JobEnd>,
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
    pub task_id: String,
    pub version: String,
    pub committed: bool,
    pub deadline: Option<Timestamp>,
}

/// A pod of a node.
#[derive(Debug, Clone, PartialEq)]
pub struct Pod {
    pub uid: String,
    pub name: String,
    pub task_id: String,
    /// The Job that made it.
    pub job_uid: Option<String>,
    pub created_at: Timestamp,
    pub node_name: Option<String>,
    pub ip: Option<String>,
    pub phase: Phase,
    /// When the kubelet accepted it; its deadline counts from here.
    pub accepted_at: Option<Timestamp>,
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
    pub terminating: bool,
}

/// What Kubernetes warns of about a Job or a pod.
#[derive(Debug, Clone, PartialEq)]
pub struct Warning {
    /// The uid of the Job or pod.
    pub about: String,
    pub reason: Reason,
}

impl Job {
    /// Its place among the Jobs of its task.
    pub fn place(&self) -> (u32, u32, &str) {
        (self.attempt, self.rank, &self.uid)
    }

    /// Whether nothing will become of it any more. One that is suspended when its task ends has no pods, and ends no further.
    pub fn is_over(&self) -> bool {
        let is_told_to_end = self.ended_because_of.is_some() || self.provision_timed_out.is_some();
        self.end.is_some() || (self.suspended && is_told_to_end)
    }

    /// Whether it waits because somebody wants it so.
    pub fn is_suspended(&self) -> bool {
        self.suspended && !self.is_over()
    }

    /// `None` for an object that is no node of a task.
    pub fn from_resource(job: kubernetes::Job) -> Option<Self> {
        let spec = job.spec?;
        let pod_labels = spec.template.metadata.and_then(|metadata| metadata.labels);
        let group_queue = pod_labels.and_then(|labels| text(&labels, labels::QUEUE));
        let pod = spec.template.spec.unwrap_or_default();
        let claims = pod
            .volumes
            .into_iter()
            .flatten()
            .filter_map(|volume| volume.persistent_volume_claim)
            .map(|source| source.claim_name)
            .collect();
        let identity = Identity::read(&job.metadata, labels::TASK_ID, labels::TASK_NAME)?;
        let status = job.status.unwrap_or_default();
        let job_end = job_end(status.conditions.as_deref().unwrap_or_default());
        Some(Self {
            rank: number(identity.labels, labels::NODE_INDEX).unwrap_or(0),
            num_nodes: number(identity.annotations, labels::NUM_NODES).unwrap_or(1),
            owned_by: owner_uid(&job.metadata, "ConfigMap"),
            claims,
            submission: identity.annotations.get(labels::SUBMISSION).cloned(),
            fingerprint: identity.annotations.get(labels::FINGERPRINT).cloned(),
            started_at: status.start_time.as_ref().map(|time| time.0),
            ended_at: job_end.as_ref().and_then(|(_, at)| *at),
            end: job_end.map(|(end, _)| end),
            max_duration: number(identity.annotations, labels::MAX_DURATION),
            provision_timeout: number(identity.annotations, labels::PROVISION_TIMEOUT),
            provision_timed_out: text(identity.annotations, labels::PROVISION_TIMED_OUT),
            ttl_after_finished: number(identity.annotations, labels::TTL_AFTER_FINISHED),
            made_at: job.metadata.creation_timestamp.as_ref()?.0,
            suspended: spec.suspend.unwrap_or(false),
            queue: text(identity.labels, labels::QUEUE).or(group_queue),
            gave_way_at: time(identity.annotations, labels::GAVE_WAY_AT),
            gave_way: number(identity.annotations, labels::GAVE_WAY).unwrap_or(0),
            attempt: number(identity.annotations, labels::ATTEMPT).unwrap_or(1),
            restarts: number(identity.annotations, labels::RESTARTS).unwrap_or(0),
            recovery: recovery(identity.annotations).map(Box::new),
            gang: match identity.annotations.get(labels::GANG).map(String::as_str) {
                Some(labels::GANG_START) => Some(Gang::Start),
                Some(labels::GANG_SETUP) => Some(Gang::Setup),
                _ => None,
            },
            ended_because_of: number(identity.annotations, labels::ENDED_BECAUSE_OF),
            uid: identity.uid,
            name: identity.object,
            task_id: identity.id,
            task_name: identity.name,
            owner: identity.owner,
            username: identity.username,
            created_at: identity.created_at,
        })
    }
}

impl TaskOwner {
    /// `None` for a ConfigMap that owns no task.
    pub fn from_metadata(metadata: &ObjectMeta) -> Option<Self> {
        let annotations = metadata.annotations.as_ref()?;
        Some(Self {
            uid: metadata.uid.clone()?,
            name: metadata.name.clone()?,
            task_id: metadata.labels.as_ref()?.get(labels::TASK_ID)?.clone(),
            version: metadata.resource_version.clone()?,
            committed: annotations.contains_key(labels::COMMITTED),
            deadline: annotations
                .get(labels::SUBMIT_DEADLINE)
                .and_then(|text| task::time::parse(text)),
        })
    }
}

impl Pod {
    /// `None` for a pod of no task.
    pub fn from_resource(pod: kubernetes::Pod) -> Option<Self> {
        let job_uid = owner_uid(&pod.metadata, "Job");
        let metadata = pod.metadata;
        let annotations = metadata.annotations.unwrap_or_default();
        let status = pod.status.unwrap_or_default();
        Some(Self {
            may_begin: annotations.contains_key(labels::NODE_IPS),
            may_run: annotations.contains_key(labels::RUN),
            accepted_at: status.start_time.as_ref().map(|time| time.0),
            ready: phase::is_ready(&status),
            terminating: metadata.deletion_timestamp.is_some(),
            ended_because_of: number(&annotations, labels::ENDED_BECAUSE_OF),
            uid: metadata.uid?,
            name: metadata.name?,
            task_id: metadata.labels?.remove(labels::TASK_ID)?,
            job_uid,
            created_at: metadata.creation_timestamp?.0,
            node_name: pod.spec.and_then(|spec| spec.node_name),
            ip: status.pod_ip.clone(),
            phase: phase::of(&status),
        })
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
            Phase::Running { .. } | Phase::Ended(_) => true,
        }
    }
}

impl Volume {
    /// `None` for a claim that is no volume of a user.
    pub fn from_resource(claim: kubernetes::PersistentVolumeClaim) -> Option<Self> {
        let identity = Identity::read(&claim.metadata, labels::VOLUME_ID, labels::VOLUME_NAME)?;
        let terminating = claim.metadata.deletion_timestamp.is_some();
        let spec = claim.spec.unwrap_or_default();
        let size = spec
            .resources
            .and_then(|resources| resources.requests)
            .and_then(|mut requests| requests.remove("storage"))
            .map(|size| size.0);
        Some(Self {
            uid: identity.uid,
            claim: identity.object,
            id: identity.id,
            name: identity.name,
            owner: identity.owner,
            username: identity.username,
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
    /// `None` for an event that says nothing about a Job or a pod.
    pub fn from_resource(event: kubernetes::Event) -> Option<Self> {
        Some(Self {
            about: event.involved_object.uid?,
            reason: Reason::new(event.reason?, event.message?),
        })
    }
}

/// What the labels and annotations of a Job or a claim say about who made it and what it is.
struct Identity<'a> {
    labels: &'a BTreeMap<String, String>,
    annotations: &'a BTreeMap<String, String>,
    uid: String,
    object: String,
    id: String,
    name: String,
    owner: Owner,
    username: String,
    created_at: Timestamp,
}

impl<'a> Identity<'a> {
    fn read(metadata: &'a ObjectMeta, id: &str, name: &str) -> Option<Self> {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        let labels = metadata.labels.as_ref()?;
        let annotations = metadata.annotations.as_ref().unwrap_or(&NONE);
        let either = |annotation: &str, label: &str| annotations.get(annotation).or_else(|| labels.get(label)).cloned();
        let id = labels.get(id)?.clone();
        Some(Self {
            labels,
            annotations,
            uid: metadata.uid.clone()?,
            object: metadata.name.clone()?,
            name: either(labels::EXACT_NAME, name).unwrap_or_else(|| id.clone()),
            id,
            owner: Owner::from_labels(labels)?,
            username: either(labels::EXACT_USERNAME, labels::USERNAME)?,
            created_at: annotations
                .get(labels::CREATED_AT)
                .and_then(|text| task::time::parse(text))
                .or_else(|| metadata.creation_timestamp.as_ref().map(|time| time.0))?,
        })
    }
}

fn text(map: &BTreeMap<String, String>, key: &str) -> Option<Box<str>> {
    map.get(key).map(|text| text.as_str().into())
}

fn time(map: &BTreeMap<String, String>, key: &str) -> Option<Timestamp> {
    task::time::parse(map.get(key)?)
}

fn recovery(annotations: &BTreeMap<String, String>) -> Option<Recovery> {
    let codes = annotations.get(labels::RECOVER_ON).map_or("", String::as_str);
    Some(Recovery {
        max_restarts_on_errors: number(annotations, labels::MAX_RESTARTS)?,
        recover_on_exit_codes: codes.split(',').filter_map(|code| code.parse().ok()).collect(),
    })
}

fn number(map: &BTreeMap<String, String>, key: &str) -> Option<u32> {
    map.get(key)?.parse().ok()
}

fn owner_uid(metadata: &ObjectMeta, kind: &str) -> Option<String> {
    metadata
        .owner_references
        .iter()
        .flatten()
        .find(|owner| owner.kind == kind)
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
