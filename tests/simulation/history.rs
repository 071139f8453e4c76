//! All objects that exist or existed in Kubernetes, as a watch without faults shows them. The checks compare servers
//! with them.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use tokio::time::Instant;

/// Annotation of the objects of the other tenant.
pub(crate) const FOREIGN: &str = "simulation/foreign";

/// Kind of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Job,
    Pod,
    Owner,
}

/// An object in its current or last state.
#[derive(Debug, Clone)]
pub(crate) struct Object {
    pub kind: Kind,
    pub uid: String,
    pub name: String,
    /// The task, user, and rank with which it was created. Its labels may have changed.
    pub task: String,
    pub user: String,
    pub rank: u32,
    pub attempt: u32,
    pub num_nodes: u32,
    /// The number of its task request, from the variables of its container.
    pub submit: Option<usize>,
    pub is_foreign: bool,
    /// UIDs of its owners.
    pub owners: Vec<String>,
    pub value: Arc<Value>,
    pub created_at: Instant,
    /// When its deletion started.
    pub deletion_started_at: Option<Instant>,
    pub deleted_at: Option<Instant>,
    pub committed_at: Option<Instant>,
    /// When a label was last missing.
    pub unlabeled_at: Option<Instant>,
    /// When the script of the user started.
    pub started_at: Option<Instant>,
    /// When its phase last changed.
    pub phase_changed_at: Instant,
    /// When any of its fields last changed.
    pub changed_at: Instant,
}

impl Object {
    fn read(kind: Kind, value: &Arc<Value>) -> Self {
        let metadata = &value["metadata"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let number = |value: &Value| value.as_str().and_then(|text| text.parse().ok());
        let (labels, annotations) = (&metadata["labels"], &metadata["annotations"]);
        let owners = metadata["ownerReferences"].as_array().into_iter().flatten();
        let spec = if kind == Kind::Pod {
            &value["spec"]
        } else {
            &value["spec"]["template"]["spec"]
        };
        let variables = spec["containers"][0]["env"].as_array().into_iter().flatten();
        let submit = variables
            .filter(|one| one["name"] == "SUBMIT")
            .find_map(|one| number(&one["value"]));
        let now = Instant::now();
        Self {
            kind,
            uid: text(&metadata["uid"]),
            name: text(&metadata["name"]),
            task: text(&labels["task-id"]),
            user: text(&annotations["k8s-cli/username"]),
            rank: number(&labels["node-idx"]).unwrap_or(0),
            attempt: number(&annotations["k8s-cli/attempt"]).unwrap_or(1),
            num_nodes: number(&annotations["num-nodes"]).unwrap_or(1),
            submit: submit.and_then(|number| usize::try_from(number).ok()),
            is_foreign: annotations[FOREIGN].is_string(),
            owners: owners.map(|owner| text(&owner["uid"])).collect(),
            value: Arc::clone(value),
            created_at: now,
            deletion_started_at: None,
            deleted_at: None,
            committed_at: None,
            unlabeled_at: None,
            started_at: None,
            phase_changed_at: now,
            changed_at: now,
        }
    }

    /// Applies a newer state.
    fn update(&mut self, value: &Arc<Value>) {
        let now = Instant::now();
        let metadata = &value["metadata"];
        if metadata["deletionTimestamp"].is_string() && self.deletion_started_at.is_none() {
            self.deletion_started_at = Some(now);
        }
        if metadata["annotations"]["k8s-cli/committed"].is_string() && self.committed_at.is_none() {
            self.committed_at = Some(now);
        }
        if !is_labeled(value) || !is_labeled(&self.value) {
            self.unlabeled_at = Some(now);
        }
        if self.value != *value {
            self.changed_at = now;
        }
        if self.phase() != phase(value) {
            self.phase_changed_at = now;
        }
        self.value = Arc::clone(value);
    }

    /// Whether it exists and is not being deleted.
    pub(crate) fn exists(&self) -> bool {
        self.deleted_at.is_none() && self.deletion_started_at.is_none()
    }

    /// Whether no label has been missing since `moment`.
    pub(crate) fn is_untouched_since(&self, moment: Instant) -> bool {
        is_labeled(&self.value) && self.unlabeled_at.is_none_or(|at| at < moment)
    }

    /// Phase of a pod: `Pending`, `Running`, `Succeeded`, or `Failed`.
    pub(crate) fn phase(&self) -> &str {
        phase(&self.value)
    }

    /// Returns an annotation.
    pub(crate) fn annotation(&self, name: &str) -> Option<&str> {
        self.value["metadata"]["annotations"][name].as_str()
    }

    /// Whether a Job has finished, or will when its last pod ends.
    pub(crate) fn has_ended(&self) -> bool {
        ["Complete", "FailureTarget", "Failed"]
            .iter()
            .any(|kind| self.has_condition(kind))
    }

    /// Whether a condition is true.
    pub(crate) fn has_condition(&self, kind: &str) -> bool {
        let conditions = self.value["status"]["conditions"].as_array().into_iter().flatten();
        conditions
            .into_iter()
            .any(|one| one["type"] == kind && one["status"] == "True")
    }
}

/// Whether all labels are there.
fn is_labeled(value: &Value) -> bool {
    let labels = &value["metadata"]["labels"];
    ["skypilot-task", "task-id", "k8s-cli/user"]
        .iter()
        .all(|label| labels[*label].is_string())
}

fn phase(value: &Value) -> &str {
    value["status"]["phase"].as_str().unwrap_or("Pending")
}

/// A change of one object. `before` is `None` if it was created.
pub(crate) struct Change {
    pub before: Option<Object>,
    pub after: Object,
}

/// All objects that exist or existed.
#[derive(Default)]
pub(crate) struct History {
    objects: BTreeMap<String, Object>,
    /// UIDs of the objects of each task.
    tasks: BTreeMap<String, Vec<String>>,
}

impl History {
    /// Applies an event of a watch.
    pub(crate) fn apply(&mut self, kind: Kind, event: &mut Value) -> Option<Change> {
        let value = Arc::new(event["object"].take());
        let uid = value["metadata"]["uid"].as_str()?.to_owned();
        let before = self.objects.get(&uid).cloned();
        let is_gone = event["type"] == "DELETED";
        let mut object = before.clone().unwrap_or_else(|| Object::read(kind, &value));
        object.update(&value);
        if before.is_none() {
            self.copy_from_job(&mut object);
        }
        if is_gone {
            object.deleted_at = Some(Instant::now());
            object.deletion_started_at.get_or_insert_with(Instant::now);
        }
        if before.is_none() {
            self.tasks.entry(object.task.clone()).or_default().push(uid.clone());
        }
        self.objects.insert(uid, object.clone());
        Some(Change { before, after: object })
    }

    /// Copies fields of a Job to its pods. Either may be seen first.
    fn copy_from_job(&mut self, object: &mut Object) {
        let copy = |pod: &mut Object, job: &Object| {
            (pod.attempt, pod.num_nodes) = (job.attempt, job.num_nodes);
            pod.user.clone_from(&job.user);
            pod.is_foreign |= job.is_foreign;
        };
        if object.kind == Kind::Pod {
            if let Some(job) = object.owners.iter().find_map(|owner| self.objects.get(owner)) {
                copy(object, job);
            }
        } else if object.kind == Kind::Job {
            let pods = self.objects.values_mut().filter(|pod| pod.owners.contains(&object.uid));
            pods.for_each(|pod| copy(pod, object));
        }
    }

    /// Records that the script of the user starts in a pod.
    pub(crate) fn record_start(&mut self, uid: &str) {
        if let Some(pod) = self.objects.get_mut(uid) {
            pod.started_at.get_or_insert_with(Instant::now);
        }
    }

    /// Returns an object.
    pub(crate) fn get(&self, uid: &str) -> Option<&Object> {
        self.objects.get(uid)
    }

    /// Returns all objects in a fixed order.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Object> {
        self.objects.values()
    }

    /// Returns the objects of one kind that servers created for a task.
    pub(crate) fn of(&self, kind: Kind, task: &str) -> impl Iterator<Item = &Object> {
        let uids = self.tasks.get(task).into_iter().flatten();
        uids.filter_map(|uid| self.objects.get(uid))
            .filter(move |object| object.kind == kind && !object.is_foreign)
    }

    /// Returns the Job of a pod.
    pub(crate) fn job_of(&self, pod: &Object) -> Option<&Object> {
        pod.owners.iter().find_map(|owner| self.get(owner))
    }

    /// Returns the IDs of the tasks that servers created.
    pub(crate) fn tasks(&self) -> Vec<String> {
        let is_ours = |uid: &String| {
            self.objects
                .get(uid)
                .is_some_and(|one| !one.is_foreign && one.kind != Kind::Pod)
        };
        let tasks = self
            .tasks
            .iter()
            .filter(|(task, uids)| !task.is_empty() && uids.iter().any(is_ours));
        tasks.map(|(task, _)| task.clone()).collect()
    }

    /// Returns all objects of a task.
    pub(crate) fn task(&self, id: &str) -> Task<'_> {
        let owner = self.of(Kind::Owner, id).min_by_key(|owner| owner.created_at);
        let jobs: Vec<&Object> = self.of(Kind::Job, id).collect();
        let attempt = jobs.iter().map(|job| job.attempt).max().unwrap_or(1);
        Task { owner, jobs, attempt }
    }
}

/// The objects that servers created for one task.
pub(crate) struct Task<'a> {
    pub owner: Option<&'a Object>,
    pub jobs: Vec<&'a Object>,
    /// The latest attempt.
    pub attempt: u32,
}

impl Task<'_> {
    /// The time from which all servers must show it; `None` while it is not committed.
    pub(crate) fn visible_since(&self) -> Option<Instant> {
        let first = self.jobs.iter().map(|job| job.created_at).min()?;
        match self.owner {
            Some(owner) => owner.committed_at.map(|committed| committed.max(first)),
            None => Some(first),
        }
    }

    /// The time at which its deletion started.
    pub(crate) fn deletion_started_at(&self) -> Option<Instant> {
        if let Some(owner) = self.owner {
            return owner.deletion_started_at;
        }
        self.jobs.iter().map(|job| job.deletion_started_at).max().flatten()
    }

    /// The time from which all of its objects are deleted.
    pub(crate) fn deleted_at(&self) -> Option<Instant> {
        let all = self.jobs.iter().copied().chain(self.owner);
        all.map(|object| object.deleted_at)
            .reduce(|left, right| Some(left?.max(right?)))
            .flatten()
    }

    /// Whether it exists and is committed.
    pub(crate) fn exists(&self) -> bool {
        self.visible_since().is_some()
            && self.deletion_started_at().is_none()
            && self.jobs.iter().any(|job| job.exists())
    }

    /// Whether no label of its objects has been missing since `moment`.
    pub(crate) fn is_untouched_since(&self, moment: Instant) -> bool {
        self.jobs
            .iter()
            .copied()
            .chain(self.owner)
            .filter(|object| object.exists())
            .all(|object| object.is_untouched_since(moment))
    }

    /// The Jobs of the latest attempt.
    pub(crate) fn latest_jobs(&self) -> impl Iterator<Item = &Object> {
        self.jobs.iter().copied().filter(|job| job.attempt == self.attempt)
    }

    /// The user who owns it.
    pub(crate) fn user(&self) -> &str {
        let any = self.owner.or_else(|| self.jobs.first().copied());
        any.map_or("", |object| object.user.as_str())
    }
}
