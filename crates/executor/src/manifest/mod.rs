//! What Kubernetes is asked to make, as pure functions of what a person asked for.

mod attempt;
mod environment;
mod escape;
mod gang;
mod job;
mod owner;
mod queue;
mod script;
mod security;
mod service;
mod volume;

pub use attempt::next_attempt;
pub use environment::environment;
pub use job::job;
pub use owner::owner;
pub use script::{SCRIPT_FOLDER, SCRIPT_KEY, Script, script};
pub use service::service;
pub use volume::claim;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use task::{Id, Name, Recovery, TaskDefinition, UserName};

use crate::cache::TaskOwner;
use crate::kubernetes::ObjectMeta;
use crate::labels;
use crate::settings::{Defaults, PodSettings};

/// The image of a task that names none.
pub const DEFAULT_IMAGE: &str = "python:3.13-slim";

/// One submission of a task: what was asked for, by whom, and what it is called.
#[derive(Debug, Clone)]
pub struct Submission {
    /// Its identifier.
    pub id: Id,
    /// Its name: the person's, else `task-{id}`.
    pub name: Name,
    /// Who asked.
    pub user: UserName,
    /// What was asked for.
    pub definition: TaskDefinition,
    /// The claim behind each of the definition's volumes, in the same order.
    pub claims: Vec<String>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// What tells its objects from those of another submission.
    pub token: String,
    /// What tells this try of it from another.
    pub try_token: String,
    /// A hash of the definition.
    pub fingerprint: String,
    /// What holds where the definition says nothing.
    pub defaults: Defaults,
    /// What its pods are like.
    pub pods: PodSettings,
}

impl Submission {
    /// The name of the Job of a task with one node.
    #[must_use]
    pub fn base_name(&self) -> String {
        self.name.object_name(self.id.as_str())
    }

    /// The name of the object that owns the Jobs. Under an `Idempotency-Key` it is the key's, whatever is submitted with it.
    #[must_use]
    pub fn owner_name(&self) -> String {
        if self.is_keyed() {
            labels::key_object_name(&self.token)
        } else {
            self.base_name()
        }
    }

    /// Whether it was submitted with an `Idempotency-Key`.
    #[must_use]
    pub fn is_keyed(&self) -> bool {
        labels::is_key_token(&self.token)
    }

    /// The same, as another try of it has begun to make it.
    #[must_use]
    pub fn joined(&self, owner: &TaskOwner, created_at: Option<Timestamp>) -> Self {
        let name = Name::of(&owner.task_name);
        Self {
            id: Id::of(&owner.key.id).unwrap_or_else(|| self.id.clone()),
            name: name.unwrap_or_else(|| self.name.clone()),
            created_at: created_at.unwrap_or(self.created_at),
            ..self.clone()
        }
    }

    /// The name of the Job of one node.
    #[must_use]
    pub fn job_name(&self, rank: u32) -> String {
        labels::job_name(&self.name, self.id.as_str(), rank, self.definition.num_nodes, 1)
    }

    /// Whether the Jobs need an owner: there are several, or there may be when it is run again, or the script is too long for
    /// an argument, or a key has to be reserved.
    #[must_use]
    pub fn needs_owner(&self) -> bool {
        self.is_keyed()
            || self.definition.num_nodes > 1
            || self.definition.resources.recovery.is_some()
            || matches!(script(&self.definition), Script::File(_))
    }

    /// When the task is run again. What Kueue takes back from a task with several nodes, it lets in again, as it does with a Job.
    #[must_use]
    pub fn recovery(&self) -> Option<Recovery> {
        let asked = self.definition.resources.recovery.clone();
        asked.or_else(|| self.queue_of_group().map(|_| Recovery::default()))
    }

    /// Kueue's queue that the pods of several nodes wait in as a group.
    fn queue_of_group(&self) -> Option<&str> {
        let queue = self.definition.kubernetes.local_queue_name.as_deref();
        queue.filter(|_| self.definition.num_nodes > 1)
    }

    /// In seconds, how long each node may run.
    #[must_use]
    pub fn max_duration(&self) -> Option<i64> {
        seconds(self.definition.max_duration.or(self.defaults.max_duration))
    }

    /// In seconds, how long the nodes may wait for a place.
    #[must_use]
    pub fn provision_timeout(&self) -> Option<i64> {
        match self.definition.kubernetes.provision_timeout {
            Some(asked) => seconds(asked.duration()),
            None => seconds(self.defaults.provision_timeout),
        }
    }

    /// In seconds, how long the task is kept after its end.
    #[must_use]
    pub fn ttl_after_finished(&self) -> Option<i64> {
        seconds(self.defaults.ttl_after_finished)
    }

    /// SkyPilot's name of the task, the same in all nodes and attempts: `sky-{time}_{name}_{id}`.
    #[must_use]
    pub fn skypilot_task_id(&self) -> String {
        let time = self.created_at.strftime("%Y-%m-%d-%H-%M-%S-%6f");
        format!("sky-{time}_{}_{}", self.name, self.id)
    }

    fn labels(&self) -> BTreeMap<String, String> {
        BTreeMap::from([
            (labels::TASK.to_owned(), labels::TRUE.to_owned()),
            (labels::TASK_ID.to_owned(), self.id.to_string()),
            (labels::TASK_NAME.to_owned(), self.name.label_value()),
            (labels::USERNAME.to_owned(), labels::username_label(&self.user)),
            (labels::USER.to_owned(), labels::user_label(&self.user)),
        ])
    }

    fn annotations(&self) -> BTreeMap<String, String> {
        BTreeMap::from([
            (labels::CREATED_AT.to_owned(), task::time::format(self.created_at)),
            (labels::NUM_NODES.to_owned(), self.definition.num_nodes.to_string()),
            (labels::EXACT_USERNAME.to_owned(), self.user.to_string()),
            (labels::EXACT_NAME.to_owned(), self.name.to_string()),
            (labels::SUBMISSION.to_owned(), self.token.clone()),
            (labels::FINGERPRINT.to_owned(), self.fingerprint.clone()),
        ])
    }

    fn metadata(&self, name: String) -> ObjectMeta {
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

#[cfg(test)]
mod tests;
