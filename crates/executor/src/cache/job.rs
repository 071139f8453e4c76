//! Converts the Job of a node into a struct with only the fields that the cache needs.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::JobCondition;
use task::definition::{MAX_DURATION_SECONDS, MAX_NODES, MAX_RESTARTS};
use task::{Name, Recovery};

use super::end_cause::EndCause;
use super::held::HeldJob;
use super::identity::{
    Identity, InvalidObject, MAX_MESSAGE, MAX_REASON, TaskKey, number, owner_uid, text, time, truncate,
};
use super::node_end::NodeEnd;
use super::ports::TaskPorts;
use super::reasons::{FAILED, Reason};
use super::record_facts::RecordFacts;
use crate::kubernetes::{self, ObjectMeta, ObjectRef};
use crate::labels;
use crate::names;
use crate::tokens;

/// An upper bound that no task can reach, because the pauses between attempts grow to minutes.
const MAX_ATTEMPT: u32 = 1_000_000;

/// The Job of one node.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    pub uid: String,
    pub name: String,
    /// The task it claims to belong to.
    pub key: Arc<TaskKey>,
    pub task_name: String,
    pub username: String,
    pub rank: u32,
    pub num_nodes: u32,
    pub created_at: Timestamp,
    /// The uid of its owner.
    pub owned_by: Option<String>,
    /// The PersistentVolumeClaims that its pods mount.
    pub claims: Vec<String>,
    pub fingerprint: Option<String>,
    /// The submission token in its pod template; older versions of this program wrote none.
    pub pod_submission: Option<Box<str>>,
    pub end: Option<JobEnd>,
    /// The exit code of the task's container, if its pod was ended because other containers kept running.
    pub exit_code: Option<i32>,
    /// How the node has ended, if the server has recorded it.
    pub recorded_end: Option<Box<NodeEnd>>,
    /// Whether the Job controller counts an active pod.
    pub is_active: bool,
    /// The finalizers that hold it after its deletion.
    pub terminating: Option<Box<str>>,
    /// Its `resourceVersion`, for patches that must not overwrite a concurrent change.
    pub version: String,
    /// The attempt it belongs to, starting at 1.
    pub attempt: u32,
    /// How many failures of its own the task had before that attempt.
    pub restarts: u32,
    /// When the task is retried.
    pub recovery: Option<Box<Recovery>>,
    /// How many seconds its node may run.
    pub max_duration: Option<u32>,
    /// Within how many seconds its node must be scheduled.
    pub provision_timeout: Option<u32>,
    /// What kept the node from being scheduled in time.
    pub provision_timed_out: Option<Box<str>>,
    /// Whether other alternatives follow if it is not scheduled in time.
    pub has_alternatives: bool,
    /// How many seconds the finished task is kept.
    pub ttl_after_finished: Option<u32>,
    /// The creation time from Kubernetes.
    pub creation_timestamp: Timestamp,
    /// When the Job controller started or last resumed it.
    pub started_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    /// Whether it is suspended, and so has no pods.
    pub suspended: bool,
    /// The Kueue queue it waits in.
    pub queue: Option<Box<str>>,
    /// When its task gave way to an earlier one, until it retries.
    pub preempted_at: Option<Timestamp>,
    /// How many times its task gave way.
    pub preemptions: u32,
    /// The gates of its node, in a gang.
    pub gang: Option<Gang>,
    /// Why the server ended this Job.
    pub ended_because_of: Option<EndCause>,
    /// Whether the user canceled the task. Only on Jobs without an owner, which would record it.
    pub cancelled: bool,
    /// When its group started it.
    pub group_started_at: Option<Timestamp>,
    /// The ports of its task.
    pub ports: Option<Box<TaskPorts>>,
    /// Set until the group of the task has started it.
    pub held: Option<Box<HeldJob>>,
    /// What the record of the task needs. Only on Jobs without an owner.
    pub facts: Option<Arc<RecordFacts>>,
}

/// The gates of the nodes in a gang.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gang {
    /// The nodes wait until all of them run.
    Start,
    /// The nodes also wait until the setup of all of them has ended.
    Setup,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobEnd {
    Complete,
    Failed(Reason),
}

impl Job {
    /// Identifies the object in a call.
    pub fn object_ref(&self) -> ObjectRef {
        ObjectRef::new(&self.name, &self.uid)
    }

    /// The sort key among the Jobs of its task.
    pub fn sort_key(&self) -> (u32, u32, &str) {
        (self.attempt, self.rank, &self.uid)
    }

    /// Whether a failure may be followed by another attempt.
    pub fn may_be_retried(&self) -> bool {
        self.recovery.is_some() || self.has_alternatives
    }

    /// Whether the Job is final. A Job that is suspended when its task ends has no pods, and Kubernetes never sets an
    /// end on it.
    pub fn is_over(&self) -> bool {
        let is_ending = self.ended_because_of.is_some() || self.provision_timed_out.is_some();
        self.end.is_some() || self.exit_code.is_some() || (self.suspended && is_ending)
    }

    /// Whether the Job is suspended and will be resumed.
    pub fn is_suspended(&self) -> bool {
        self.suspended && !self.is_over()
    }

    /// Reads the Job of a node. Fails for a Job that neither this program nor the Python implementation could have
    /// created.
    pub fn from_resource(job: kubernetes::Job) -> Result<Self, InvalidObject> {
        let identity = Identity::from_metadata(&job.metadata, labels::TASK_ID, labels::TASK_NAME)?;
        let key = Arc::new(identity.key());
        let policy = JobPolicy::from_annotations(&identity)?;
        let (rank, num_nodes) = rank(&identity)?;
        let attempt = policy.attempt;
        // Names are unique, so checking the name ensures that nobody can add a second Job for the same node.
        let expected =
            || Name::new(identity.name).map(|name| names::job_name(&name, &key.id, rank, num_nodes, attempt));
        if !identity.is_python() && expected().is_none_or(|expected| expected != identity.object) {
            return Err(InvalidObject("its name does not match its task"));
        }
        let spec = job.spec.unwrap_or_default();
        let pod_metadata = spec.template.metadata.unwrap_or_default();
        let group_queue = pod_metadata
            .labels
            .and_then(|labels| text(&labels, labels::QUEUE, MAX_REASON));
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
            pod_submission: tokens::submission(&pod_annotations).map(Into::into),
            started_at: status.start_time.as_ref().map(|time| time.0),
            ended_at: job_end.as_ref().and_then(|(_, at)| *at),
            end: job_end.map(|(end, _)| end),
            exit_code: policy.exit_code,
            recorded_end: recorded_end(policy.annotations),
            is_active: status.active.is_some_and(|pods| pods > 0),
            terminating: terminating(&job.metadata),
            version: job.metadata.resource_version.clone().unwrap_or_default(),
            max_duration: policy.max_duration,
            provision_timeout: policy.provision_timeout,
            provision_timed_out: text(policy.annotations, labels::PROVISION_TIMED_OUT, MAX_MESSAGE),
            has_alternatives: policy.annotations.contains_key(labels::ALTERNATIVES),
            ttl_after_finished: policy.ttl_after_finished,
            creation_timestamp: identity.creation_timestamp,
            suspended: spec.suspend.unwrap_or(false),
            queue: text(identity.labels, labels::QUEUE, MAX_REASON).or(group_queue),
            preempted_at: time(policy.annotations, labels::GAVE_WAY_AT),
            preemptions: policy.preemptions,
            attempt,
            restarts: policy.restarts,
            recovery: policy.recovery,
            gang: policy.gang,
            ended_because_of: policy.ended_because_of,
            cancelled: identity.annotations.contains_key(labels::CANCELLED),
            group_started_at: time(policy.annotations, labels::GROUP_STARTED_AT),
            ports: TaskPorts::from_annotations(policy.annotations).map(Box::new),
            facts: RecordFacts::from_annotations(policy.annotations).map(Arc::new),
            held: HeldJob::from_annotations(policy.annotations)?.map(Box::new),
            uid: identity.uid.to_owned(),
            name: identity.object.to_owned(),
            key,
            task_name: identity.name.to_owned(),
            username: identity.username.to_owned(),
            created_at: identity.created_at,
        })
    }
}

/// The rank of a Job, and the number of nodes of its task.
fn rank(identity: &Identity<'_>) -> Result<(u32, u32), InvalidObject> {
    let rank = number(identity.labels, labels::NODE_INDEX, MAX_NODES, "its rank is invalid")?.unwrap_or(0);
    let num_nodes = identity.num_nodes()?;
    match rank < num_nodes {
        true => Ok((rank, num_nodes)),
        false => Err(InvalidObject("its rank exceeds its number of nodes")),
    }
}

/// The recorded end of a node.
fn recorded_end(annotations: &BTreeMap<String, String>) -> Option<Box<NodeEnd>> {
    let text = annotations.get(labels::END)?;
    NodeEnd::from_annotation(text).map(Box::new)
}

/// What the annotations of a Job ask the server to do.
struct JobPolicy<'a> {
    annotations: &'a BTreeMap<String, String>,
    attempt: u32,
    restarts: u32,
    max_duration: Option<u32>,
    provision_timeout: Option<u32>,
    ttl_after_finished: Option<u32>,
    preemptions: u32,
    recovery: Option<Box<Recovery>>,
    gang: Option<Gang>,
    ended_because_of: Option<EndCause>,
    exit_code: Option<i32>,
}

impl<'a> JobPolicy<'a> {
    /// Jobs of the Python implementation have none of these annotations, so any that they carry were added by somebody
    /// else, and are ignored.
    fn from_annotations(identity: &Identity<'a>) -> Result<Self, InvalidObject> {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        let of = if identity.is_python() {
            &NONE
        } else {
            identity.annotations
        };
        let seconds = |key| number(of, key, MAX_DURATION_SECONDS, "one of its durations is invalid");
        let codes = of.get(labels::RECOVER_ON).map_or("", String::as_str);
        let restarts = number(
            of,
            labels::MAX_RESTARTS,
            MAX_RESTARTS,
            "its number of restarts is invalid",
        )?;
        let mut recover_on_exit_codes: Vec<u8> = codes.split(',').filter_map(|code| code.parse().ok()).collect();
        recover_on_exit_codes.sort_unstable();
        recover_on_exit_codes.dedup();
        Ok(Self {
            annotations: of,
            attempt: number(of, labels::ATTEMPT, MAX_ATTEMPT, "its attempt is invalid")?
                .unwrap_or(1)
                .max(1),
            restarts: number(of, labels::RESTARTS, MAX_RESTARTS, "its number of restarts is invalid")?.unwrap_or(0),
            max_duration: seconds(labels::MAX_DURATION)?,
            provision_timeout: seconds(labels::PROVISION_TIMEOUT)?,
            ttl_after_finished: seconds(labels::TTL_AFTER_FINISHED)?,
            preemptions: number(of, labels::GAVE_WAY, MAX_ATTEMPT, "how often it gave way is invalid")?.unwrap_or(0),
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
            ended_because_of: EndCause::from_annotations(of)?,
            exit_code: of.get(labels::EXIT_CODE).and_then(|code| code.parse().ok()),
        })
    }
}

/// The finalizers of a deleted object, joined for display.
fn terminating(metadata: &ObjectMeta) -> Option<Box<str>> {
    metadata.deletion_timestamp.as_ref()?;
    let finalizers = metadata.finalizers.as_deref().unwrap_or_default().join("`, `");
    Some(truncate(&finalizers, MAX_MESSAGE).into())
}

/// How and when a Job ended.
///
/// A failed Job gets the condition `Failed` only when all of its pods are gone, which never happens on a lost cluster
/// node. Before that it has the condition `FailureTarget` (since Kubernetes 1.31).
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
        failed.reason.clone().unwrap_or_else(|| FAILED.to_owned()),
        failed.message.clone().unwrap_or_default(),
    );
    Some((JobEnd::Failed(reason), at(failed)))
}
