//! A submission: a task, with everything that its manifests depend on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use task::{Id, Name, Recovery, TaskDefinition, UserName};

use super::hooks;
use super::script::{Script, script};
use crate::cache::{GroupMember, TaskOwner};
use crate::delivery::Delivery;
use crate::fingerprint::Fingerprint;
use crate::kubernetes::ObjectMeta;
use crate::labels;
use crate::names;
use crate::placement::Placement;
use crate::settings::{Defaults, PodSettings, PortExposure};
use crate::tokens;
use crate::user_key;

/// One submission of a task, with everything its manifests depend on.
#[derive(Debug, Clone)]
pub struct Submission {
    /// The ID of the task.
    pub id: Id,
    /// The name that the user chose, or `task-{id}`.
    pub name: Name,
    /// The user who submitted the task.
    pub user: UserName,
    /// The validated task.
    pub definition: TaskDefinition,
    /// The PersistentVolumeClaim of each of the definition's volumes, in the same order; `None` for one that is created
    /// with the pods.
    pub claims: Vec<Option<String>>,
    /// Its files, and how they come to its nodes.
    pub(crate) files: Delivery,
    /// The UID of the owner from which the names of the objects with its files derive: its own, or that of the first task
    /// of its group. Empty before that owner exists.
    pub(crate) files_owner: Arc<str>,
    /// The cluster nodes that it may use.
    pub placement: Placement,
    /// When the task was submitted.
    pub created_at: Timestamp,
    /// Distinguishes its objects from those of other submissions.
    pub token: String,
    /// Distinguishes this try from other tries of the same submission.
    pub try_token: String,
    /// A hash of the definition.
    pub fingerprint: Fingerprint,
    /// Defaults for what the definition does not set.
    pub defaults: Defaults,
    /// Settings for its pods.
    pub pods: PodSettings,
    /// The group that it belongs to.
    pub group: Option<SubmissionGroup>,
    /// Whether its record and logs are kept when it is deleted.
    pub is_archived: bool,
}

/// What a task knows of its group.
#[derive(Debug, Clone)]
pub struct SubmissionGroup {
    /// Its place in the group.
    pub member: GroupMember,
    /// SkyPilot's IDs of all tasks of a pipeline, one per line; empty in a sweep, which may be large.
    pub task_ids: Arc<str>,
}

impl Submission {
    /// The name of the Job of a task with one node.
    #[must_use]
    pub fn base_name(&self) -> String {
        self.name.object_name(self.id.as_str())
    }

    /// The name of the object that owns the Jobs. With an `Idempotency-Key`, it derives from the key alone.
    #[must_use]
    pub fn owner_name(&self) -> String {
        if self.is_keyed() {
            names::key_object_name(&self.token)
        } else {
            self.base_name()
        }
    }

    /// Whether it was submitted with an `Idempotency-Key`.
    #[must_use]
    pub fn is_keyed(&self) -> bool {
        tokens::is_key_token(&self.token)
    }

    /// The same submission with the ID, name, and time of the try that created `owner`.
    #[must_use]
    pub fn for_try_of(&self, owner: &TaskOwner, created_at: Option<Timestamp>) -> Self {
        let name = Name::new(&owner.task_name);
        Self {
            id: Id::new(&owner.key.id).unwrap_or_else(|| self.id.clone()),
            name: name.unwrap_or_else(|| self.name.clone()),
            created_at: created_at.unwrap_or(self.created_at),
            files_owner: owner.uid.as_str().into(),
            ..self.clone()
        }
    }

    /// The service account of its pods: the one that the task chooses, or else that of the server.
    #[must_use]
    pub fn service_account(&self) -> Option<&str> {
        let kubernetes = &self.definition.kubernetes;
        let of_pod = kubernetes.pod_config.as_ref();
        let of_pod = of_pod.and_then(|config| config["spec"]["serviceAccountName"].as_str());
        let of_task = of_pod.or(kubernetes.service_account.as_deref());
        of_task.or(self.pods.service_account.as_deref())
    }

    /// The name of the Job of one node in the first attempt.
    #[must_use]
    pub fn job_name(&self, rank: u32) -> String {
        names::job_name(&self.name, self.id.as_str(), rank, self.definition.num_nodes, 1)
    }

    /// Whether the Jobs need an owner: there are several, a retry or another alternative may add some, the script or a hook
    /// is too long for an argument, there are Secrets, files, outputs, or a Service, or a key must be reserved.
    #[must_use]
    pub fn needs_owner(&self) -> bool {
        self.is_keyed()
            || self.definition.num_nodes > 1
            || self.definition.resources.recovery.is_some()
            || !self.placement.next.is_empty()
            || !self.definition.secrets.is_empty()
            || !self.definition.files.is_empty()
            || self.files.fetched().is_some()
            || self.port_service_name().is_some()
            || matches!(self.script(), Script::File(_))
            || hooks::are_files(&self.definition)
    }

    /// The script of its nodes.
    pub(super) fn script(&self) -> Script {
        script(&self.definition, &self.files)
    }

    /// The name of the Service for its ports, if it has one.
    pub(super) fn port_service_name(&self) -> Option<String> {
        let has_service = self.pods.ports != PortExposure::PodAddress;
        let has_ports = !self.definition.resources.ports.is_empty();
        (has_service && has_ports).then(|| format!("task-{}-ports", self.id))
    }

    /// When the task is retried. A gang in a Kueue queue is always retried after Kueue evicts it, as Kueue does by
    /// itself with a single Job.
    #[must_use]
    pub fn recovery(&self) -> Option<Recovery> {
        let wanted = self.definition.resources.recovery.clone();
        wanted.or_else(|| self.group_queue().map(|_| Recovery::default()))
    }

    /// The Kueue queue in which the task waits.
    pub(super) fn queue(&self) -> Option<&str> {
        self.definition.kubernetes.local_queue_name.as_deref()
    }

    /// The Kueue queue in which the pods of a gang wait as a group.
    pub(super) fn group_queue(&self) -> Option<&str> {
        self.queue().filter(|_| self.definition.num_nodes > 1)
    }

    /// How many seconds each node may run.
    #[must_use]
    pub fn max_duration(&self) -> Option<i64> {
        seconds(self.definition.max_duration.or(self.defaults.max_duration))
    }

    /// How many seconds the nodes may wait to be scheduled.
    #[must_use]
    pub fn provision_timeout(&self) -> Option<i64> {
        seconds(self.defaults.provision_timeout_of(&self.definition))
    }

    /// How many seconds the finished task is kept.
    #[must_use]
    pub fn ttl_after_finished(&self) -> Option<i64> {
        seconds(self.defaults.ttl_after_finished)
    }

    /// SkyPilot's ID of the task, the same on all nodes and in all attempts: `sky-{time}_{name}_{id}`.
    #[must_use]
    pub fn skypilot_task_id(&self) -> String {
        let time = self.created_at.strftime("%Y-%m-%d-%H-%M-%S-%6f");
        format!("sky-{time}_{}_{}", self.name, self.id)
    }

    pub(super) fn labels(&self) -> BTreeMap<String, String> {
        let group = self.group.as_ref().map(|group| group.member.group_id.to_string());
        let mut labels = BTreeMap::from([
            (labels::TASK.to_owned(), labels::TRUE.to_owned()),
            (labels::TASK_ID.to_owned(), self.id.to_string()),
            (labels::TASK_NAME.to_owned(), self.name.label_value()),
            (labels::USERNAME.to_owned(), user_key::username_label(&self.user)),
            (labels::USER.to_owned(), user_key::user_label(&self.user)),
        ]);
        labels.extend(group.map(|id| (labels::GROUP_ID.to_owned(), id)));
        labels
    }

    pub(super) fn annotations(&self) -> BTreeMap<String, String> {
        BTreeMap::from([
            (labels::CREATED_AT.to_owned(), task::time::format(self.created_at)),
            (labels::NUM_NODES.to_owned(), self.definition.num_nodes.to_string()),
            (labels::EXACT_USERNAME.to_owned(), self.user.to_string()),
            (labels::EXACT_NAME.to_owned(), self.name.to_string()),
            (labels::SUBMISSION.to_owned(), self.token.clone()),
            (labels::FINGERPRINT.to_owned(), self.fingerprint.to_string()),
        ])
    }

    pub(super) fn metadata(&self, name: String) -> ObjectMeta {
        ObjectMeta {
            name: Some(name),
            labels: Some(self.labels()),
            annotations: Some(self.annotations()),
            ..ObjectMeta::default()
        }
    }
}

fn seconds(duration: Option<Duration>) -> Option<i64> {
    i64::try_from(duration?.as_secs()).ok()
}
