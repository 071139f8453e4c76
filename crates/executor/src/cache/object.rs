//! Converts owners, pods, claims, and events into structs with only the fields that the cache needs.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use task::Name;

use super::end_cause::EndCause;
use super::group_member::{GroupKey, GroupMember};
use super::identity::{Identity, InvalidObject, MAX_MESSAGE, MAX_REASON, TaskKey, owner_uid, time, truncate};
use super::job::Job;
use super::owner_files::OwnerFiles;
use super::phase::{self, Phase};
use super::reasons::{Reason, SCHEDULING_GATED, UNSCHEDULABLE};
use super::record_facts::RecordFacts;
use super::turn::Turn;
use crate::kubernetes::{self, ObjectMeta, ObjectRef, Target};
use crate::labels;
use crate::names;
use crate::tokens;
use crate::user_key::UserKey;

/// Components whose events explain why a pod does not start. Other events are ignored, because anybody who may create
/// events could put text into the status of a task.
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

/// The ConfigMap that owns the Jobs of a task.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskOwner {
    pub uid: String,
    pub name: String,
    pub key: Arc<TaskKey>,
    pub task_name: String,
    pub creation_timestamp: Timestamp,
    pub version: String,
    pub committed: bool,
    pub terminating: bool,
    pub deadline: Option<Timestamp>,
    pub fingerprint: Option<String>,
    pub num_nodes: u32,
    /// The current attempt and its stage, or `None` if an older version of this program created the owner.
    pub turn: Option<Turn>,
    /// The group that the task was submitted with.
    pub group: Option<Box<GroupMember>>,
    /// For the first task of a group: whether the owners of all tasks are committed.
    pub group_complete: bool,
    /// What the record of the task needs.
    pub facts: Option<Arc<RecordFacts>>,
    /// The files that its nodes may fetch from the server.
    pub files: Option<Arc<OwnerFiles>>,
}

/// The pod of a node.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Pod {
    pub uid: String,
    pub name: String,
    /// The uid of its Job.
    pub job_uid: String,
    pub user: UserKey,
    pub submission: Option<Box<str>>,
    /// Its `resourceVersion`, for patches that must not overwrite a concurrent change.
    pub version: String,
    pub created_at: Timestamp,
    pub node_name: Option<String>,
    pub ip: Option<String>,
    pub phase: Phase,
    /// When the kubelet accepted the pod; its deadline counts from here.
    pub accepted_at: Option<Timestamp>,
    /// Whether other containers are still running after the task's container has ended.
    pub has_leftover_containers: bool,
    /// Whether the server has set a deadline that ends the pod now.
    pub is_ending: bool,
    /// Which of its gates are open, in a gang.
    pub gate: Gate,
    /// In a gang with a setup: whether the setup has ended.
    pub ready: bool,
    pub terminating: bool,
    /// Why the server ended this pod.
    pub ended_because_of: Option<EndCause>,
}

/// How far the gates of a node are open. One that is open stays so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Gate {
    /// The node waits for the others to run.
    Closed,
    /// The start gate is open: the node may run its setup.
    Start,
    /// The run gate is open as well.
    Run,
}

/// The PersistentVolumeClaim of a volume.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Volume {
    pub uid: String,
    pub claim: String,
    pub id: String,
    pub name: String,
    pub user: UserKey,
    pub username: String,
    pub size: String,
    pub storage_class: Option<String>,
    pub access_modes: Vec<String>,
    pub phase: String,
    pub created_at: Timestamp,
    pub creation_timestamp: Timestamp,
    pub terminating: bool,
}

/// A warning event about a Job or a pod.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Warning {
    /// The uid of the Job or pod.
    pub about: String,
    pub reason: Reason,
}

impl TaskOwner {
    /// Reads the owner of a task. Fails for a ConfigMap that this program could not have created.
    pub fn from_metadata(metadata: &ObjectMeta) -> Result<Self, InvalidObject> {
        let identity = Identity::from_metadata(metadata, labels::TASK_ID, labels::TASK_NAME)?;
        let token = identity.submission.ok_or(InvalidObject("it has no submission token"))?;
        // Older servers named the owner after the task even if it had a key.
        let is_of_key = tokens::is_key_token(token) && identity.object == names::key_object_name(token);
        let of_name = Name::new(identity.name).map(|name| name.object_name(identity.id));
        if !is_of_key && of_name.is_none_or(|name| name != identity.object) {
            return Err(InvalidObject("its name does not match its task"));
        }
        let turn = identity.annotations.get(labels::TURN);
        let group = identity.annotations.get(labels::GROUP);
        Ok(Self {
            num_nodes: identity.num_nodes()?,
            uid: identity.uid.to_owned(),
            name: identity.object.to_owned(),
            key: Arc::new(identity.key()),
            task_name: identity.name.to_owned(),
            creation_timestamp: identity.creation_timestamp,
            version: metadata.resource_version.clone().unwrap_or_default(),
            committed: identity.annotations.contains_key(labels::COMMITTED),
            terminating: metadata.deletion_timestamp.is_some(),
            deadline: time(identity.annotations, labels::SUBMIT_DEADLINE),
            fingerprint: identity.annotations.get(labels::FINGERPRINT).cloned(),
            turn: turn.map(|turn| turn.parse()).transpose()?,
            group_complete: identity.annotations.contains_key(labels::GROUP_COMPLETE),
            facts: RecordFacts::from_annotations(identity.annotations).map(Arc::new),
            files: OwnerFiles::from_annotations(identity.username, identity.annotations).map(Arc::new),
            group: group
                .map(|group| GroupMember::from_annotation(group, identity.id, token))
                .transpose()?
                .map(Box::new),
        })
    }
}

impl TaskOwner {
    /// Identifies the object in a call.
    pub fn object_ref(&self) -> ObjectRef {
        ObjectRef::new(&self.name, &self.uid)
    }

    /// The group that the task was submitted with.
    pub(crate) fn group_key(&self) -> Option<GroupKey> {
        let group = self.group.as_ref()?;
        Some(GroupKey {
            id: group.group_id.clone(),
            user: self.key.user.clone(),
            token: group.token.clone(),
        })
    }

    /// Whether the task is the first of a group.
    pub(crate) fn leads_group(&self) -> bool {
        self.group.as_ref().is_some_and(|group| group.index == 0)
    }

    /// Whether the leader of a group decides whether the task exists.
    pub(crate) fn follows_leader(&self) -> bool {
        self.group.as_ref().is_some_and(|group| group.index > 0)
    }

    /// Whether its name is that of an `Idempotency-Key`.
    pub(crate) fn is_named_by_key(&self) -> bool {
        let token = self.key.submission.as_deref();
        token.is_some_and(|token| tokens::is_key_token(token) && self.name == names::key_object_name(token))
    }

    /// The owner in the version that was seen, for changes that must not overwrite a concurrent one.
    pub fn this_version(&self) -> Target<'_> {
        let (name, uid) = (&self.name, &self.uid);
        let version = Some(self.version.as_str());
        Target { name, uid, version }
    }

    /// Whether this is a later state. Resource versions are increasing integers
    /// (<https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions>).
    pub fn is_newer_than(&self, other: &Self) -> bool {
        let number = |owner: &Self| owner.version.parse::<u64>().ok();
        number(self)
            .zip(number(other))
            .is_some_and(|(this, other)| this > other)
    }

    /// Whether this Job was created for this owner. Name and attempt must match as well, which leaves one possible Job
    /// per node and attempt.
    pub fn owns(&self, job: &Job) -> bool {
        self.is_named_by(job) && !self.has_not_begun(job)
    }

    /// Whether this Job names this owner, but belongs to an attempt that the owner has not recorded.
    pub(crate) fn has_not_begun(&self, job: &Job) -> bool {
        self.is_named_by(job) && self.turn.is_some_and(|turn| job.attempt > turn.attempt)
    }

    fn is_named_by(&self, job: &Job) -> bool {
        job.owned_by.as_ref() == Some(&self.uid) && job.task_name == self.task_name && job.key == self.key
    }
}

impl Gate {
    fn from_annotations(annotations: &BTreeMap<String, String>) -> Self {
        match (
            annotations.contains_key(labels::NODE_IPS),
            annotations.contains_key(labels::RUN),
        ) {
            (false, _) => Self::Closed,
            (true, false) => Self::Start,
            (true, true) => Self::Run,
        }
    }
}

impl Pod {
    /// Whether the start gate is open.
    pub(crate) fn may_start(&self) -> bool {
        self.gate >= Gate::Start
    }

    /// Whether the run gate is open.
    pub(crate) fn may_run(&self) -> bool {
        self.gate == Gate::Run
    }

    /// Reads the pod of a node. Fails if no Job controls it.
    pub(crate) fn from_resource(pod: kubernetes::Pod) -> Result<Self, InvalidObject> {
        let job_uid = owner_uid(&pod.metadata, "Job").ok_or(InvalidObject("no Job controls it"))?;
        let metadata = pod.metadata;
        let user = metadata
            .labels
            .as_ref()
            .and_then(UserKey::from_labels)
            .ok_or(InvalidObject("it has no user"))?;
        let (Some(uid), Some(name), Some(created_at)) = (metadata.uid, metadata.name, metadata.creation_timestamp)
        else {
            return Err(InvalidObject("it has no uid, name, or creation time"));
        };
        let annotations = metadata.annotations.unwrap_or_default();
        let status = pod.status.unwrap_or_default();
        let spec = pod.spec.unwrap_or_default();
        let grace = SignedDuration::from_secs(metadata.deletion_grace_period_seconds.unwrap_or(0));
        let deleted_at = metadata
            .deletion_timestamp
            .map(|time| time.0.checked_sub(grace).unwrap_or(time.0));
        let facts = phase::PodFacts {
            deadline_seconds: spec.active_deadline_seconds,
            deleted_at,
            ended_with_leftovers: annotations.contains_key(labels::EXIT_CODE),
        };
        Ok(Self {
            gate: Gate::from_annotations(&annotations),
            accepted_at: status.start_time.as_ref().map(|time| time.0),
            ready: phase::is_ready(&status),
            terminating: deleted_at.is_some(),
            ended_because_of: EndCause::from_annotations(&annotations)?,
            has_leftover_containers: phase::has_leftover_containers(&status),
            is_ending: spec.active_deadline_seconds == Some(1),
            phase: phase::pod_phase(&status, facts),
            submission: tokens::submission(&annotations).map(Into::into),
            version: metadata.resource_version.unwrap_or_default(),
            uid,
            name,
            job_uid,
            user,
            created_at: created_at.0,
            node_name: spec.node_name,
            ip: status.pod_ip.clone(),
        })
    }

    /// Identifies the object in a call.
    pub(crate) fn object_ref(&self) -> ObjectRef {
        ObjectRef::new(&self.name, &self.uid)
    }

    /// Whether this Job created the pod. The pod must carry the annotation of the Job's template: anybody can write an
    /// owner reference.
    pub(crate) fn is_of(&self, job: &Job) -> bool {
        self.job_uid == job.uid && self.user == job.key.user && self.submission == job.pod_submission
    }

    /// Whether a scheduling gate holds the pod back, e.g., for a queue.
    pub(crate) fn is_gated(&self) -> bool {
        self.is_pending_for(SCHEDULING_GATED)
    }

    /// Whether the scheduler cannot place the pod.
    pub(crate) fn is_unschedulable(&self) -> bool {
        self.is_pending_for(UNSCHEDULABLE)
    }

    fn is_pending_for(&self, why: &str) -> bool {
        matches!(&self.phase, Phase::Pending(Some(reason)) if reason.reason == why)
    }

    /// Whether the container is running or has run, and so can have a log.
    pub(crate) fn has_log(&self) -> bool {
        match &self.phase {
            Phase::Pending(_) => false,
            Phase::Running { .. } => true,
            Phase::Ended(end) => end.has_run,
        }
    }
}

impl Volume {
    /// Reads the PersistentVolumeClaim of a volume. Fails for a claim that neither this program nor the Python
    /// implementation could have created.
    pub(crate) fn from_resource(claim: kubernetes::PersistentVolumeClaim) -> Result<Self, InvalidObject> {
        let identity = Identity::from_metadata(&claim.metadata, labels::VOLUME_ID, labels::VOLUME_NAME)?;
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
            user: identity.user,
            username: identity.username.to_owned(),
            creation_timestamp: identity.creation_timestamp,
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
    /// Reads a warning event about a Job or a pod. Fails for other objects and for unknown reporters.
    pub(crate) fn from_resource(event: kubernetes::Event) -> Result<Self, InvalidObject> {
        let source = event.source.and_then(|source| source.component);
        let reporter = source.filter(|source| !source.is_empty()).or(event.reporting_component);
        let is_known = reporter.is_some_and(|reporter| REPORTERS.contains(&reporter.as_str()));
        let about = event.involved_object;
        if !is_known || !matches!(about.kind.as_deref(), Some("Job" | "Pod")) {
            return Err(InvalidObject("it is not from a known component"));
        }
        let (Some(about), Some(reason), Some(message)) = (about.uid, event.reason, event.message) else {
            return Err(InvalidObject("it is incomplete"));
        };
        Ok(Self {
            about,
            reason: Reason::new(truncate(&reason, MAX_REASON), truncate(&message, MAX_MESSAGE)),
        })
    }
}
