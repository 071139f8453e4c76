//! What Kubernetes has and had, as somebody sees it who misses nothing: the truth that servers are compared with.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use tokio::time::Instant;

/// The annotation of what the fellow tenant made.
pub const STRANGER: &str = "simulation/stranger";

/// What kind of object something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Job,
    Pod,
    Owner,
}

/// One object, as it is now or was at its end.
#[derive(Debug, Clone)]
pub struct Object {
    pub kind: Kind,
    pub uid: String,
    pub name: String,
    /// The task, user and place that it was made with, whatever its labels say now.
    pub task: String,
    pub user: String,
    pub rank: u32,
    pub attempt: u32,
    pub num_nodes: u32,
    /// The number of the submit that asked for it, as its container's variables say.
    pub submit: Option<usize>,
    pub by_stranger: bool,
    /// Who owns it.
    pub owners: Vec<String>,
    pub value: Arc<Value>,
    pub made: Instant,
    /// When its deletion began.
    pub deleted: Option<Instant>,
    pub gone: Option<Instant>,
    pub committed: Option<Instant>,
    /// When a label was last missing.
    pub tampered: Option<Instant>,
    /// When the user's code began in it.
    pub begun: Option<Instant>,
    /// When its container was last seen to start or end.
    pub moved: Instant,
    /// When anything in it last changed.
    pub changed: Instant,
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
            by_stranger: annotations[STRANGER].is_string(),
            owners: owners.map(|owner| text(&owner["uid"])).collect(),
            value: Arc::clone(value),
            made: now,
            deleted: None,
            gone: None,
            committed: None,
            tampered: None,
            begun: None,
            moved: now,
            changed: now,
        }
    }

    /// Takes in a newer state.
    fn change(&mut self, value: &Arc<Value>) {
        let now = Instant::now();
        let metadata = &value["metadata"];
        if metadata["deletionTimestamp"].is_string() && self.deleted.is_none() {
            self.deleted = Some(now);
        }
        if metadata["annotations"]["k8s-cli/committed"].is_string() && self.committed.is_none() {
            self.committed = Some(now);
        }
        if !is_labelled(value) || !is_labelled(&self.value) {
            self.tampered = Some(now);
        }
        if self.value != *value {
            self.changed = now;
        }
        if self.phase() != phase(value) {
            self.moved = now;
        }
        self.value = Arc::clone(value);
    }

    /// Whether it exists and nobody has begun to delete it.
    pub fn is_there(&self) -> bool {
        self.gone.is_none() && self.deleted.is_none()
    }

    /// Whether all of its labels are as they were made, and have been since `moment`.
    pub fn is_untouched_since(&self, moment: Instant) -> bool {
        is_labelled(&self.value) && self.tampered.is_none_or(|at| at < moment)
    }

    /// Where its container stands: `Pending`, `Running`, `Succeeded` or `Failed`.
    pub fn phase(&self) -> &str {
        phase(&self.value)
    }

    /// An annotation.
    pub fn annotation(&self, name: &str) -> Option<&str> {
        self.value["metadata"]["annotations"][name].as_str()
    }

    /// Whether a Job has ended, or will with its last pod.
    pub fn has_ended(&self) -> bool {
        ["Complete", "FailureTarget", "Failed"]
            .iter()
            .any(|kind| self.has_condition(kind))
    }

    /// Whether it has a condition.
    pub fn has_condition(&self, kind: &str) -> bool {
        let conditions = self.value["status"]["conditions"].as_array().into_iter().flatten();
        conditions
            .into_iter()
            .any(|one| one["type"] == kind && one["status"] == "True")
    }
}

/// Whether nobody has taken a label away.
fn is_labelled(value: &Value) -> bool {
    let labels = &value["metadata"]["labels"];
    ["skypilot-task", "task-id", "k8s-cli/user"]
        .iter()
        .all(|label| labels[*label].is_string())
}

fn phase(value: &Value) -> &str {
    value["status"]["phase"].as_str().unwrap_or("Pending")
}

/// A change of one object: before, when it was there, and after.
pub struct Change {
    pub before: Option<Object>,
    pub after: Object,
}

/// Everything that is and was.
#[derive(Default)]
pub struct History {
    objects: BTreeMap<String, Object>,
    /// The uids of what was made for each task.
    tasks: BTreeMap<String, Vec<String>>,
}

impl History {
    /// Takes in an event of a watch.
    pub fn take(&mut self, kind: Kind, event: &mut Value) -> Option<Change> {
        let value = Arc::new(event["object"].take());
        let uid = value["metadata"]["uid"].as_str()?.to_owned();
        let before = self.objects.get(&uid).cloned();
        let is_gone = event["type"] == "DELETED";
        let mut object = before.clone().unwrap_or_else(|| Object::read(kind, &value));
        object.change(&value);
        if before.is_none() {
            self.adopt(&mut object);
        }
        if is_gone {
            object.gone = Some(Instant::now());
            object.deleted.get_or_insert_with(Instant::now);
        }
        if before.is_none() {
            self.tasks.entry(object.task.clone()).or_default().push(uid.clone());
        }
        self.objects.insert(uid, object.clone());
        Some(Change { before, after: object })
    }

    /// What a pod's Job says holds for the pod. Either may be seen first.
    fn adopt(&mut self, object: &mut Object) {
        let told = |pod: &mut Object, job: &Object| {
            (pod.attempt, pod.num_nodes) = (job.attempt, job.num_nodes);
            pod.user.clone_from(&job.user);
            pod.by_stranger |= job.by_stranger;
        };
        if object.kind == Kind::Pod {
            if let Some(job) = object.owners.iter().find_map(|owner| self.objects.get(owner)) {
                told(object, job);
            }
        } else if object.kind == Kind::Job {
            let pods = self.objects.values_mut().filter(|pod| pod.owners.contains(&object.uid));
            pods.for_each(|pod| told(pod, object));
        }
    }

    /// The user's code begins in a pod.
    pub fn begins(&mut self, uid: &str) {
        if let Some(pod) = self.objects.get_mut(uid) {
            pod.begun.get_or_insert_with(Instant::now);
        }
    }

    /// An object.
    pub fn get(&self, uid: &str) -> Option<&Object> {
        self.objects.get(uid)
    }

    /// All objects that are or were, in a fixed order.
    pub fn all(&self) -> impl Iterator<Item = &Object> {
        self.objects.values()
    }

    /// What servers made of a kind for a task.
    pub fn of(&self, kind: Kind, task: &str) -> impl Iterator<Item = &Object> {
        let uids = self.tasks.get(task).into_iter().flatten();
        uids.filter_map(|uid| self.objects.get(uid))
            .filter(move |object| object.kind == kind && !object.by_stranger)
    }

    /// The Job of a pod.
    pub fn job_of(&self, pod: &Object) -> Option<&Object> {
        pod.owners.iter().find_map(|owner| self.get(owner))
    }

    /// The tasks that servers made, each once.
    pub fn tasks(&self) -> Vec<String> {
        let is_ours = |uid: &String| {
            self.objects
                .get(uid)
                .is_some_and(|one| !one.by_stranger && one.kind != Kind::Pod)
        };
        let tasks = self
            .tasks
            .iter()
            .filter(|(task, uids)| !task.is_empty() && uids.iter().any(is_ours));
        tasks.map(|(task, _)| task.clone()).collect()
    }

    /// A task as a whole.
    pub fn task(&self, id: &str) -> Task<'_> {
        let owner = self.of(Kind::Owner, id).min_by_key(|owner| owner.made);
        let jobs: Vec<&Object> = self.of(Kind::Job, id).collect();
        let attempt = jobs.iter().map(|job| job.attempt).max().unwrap_or(1);
        Task { owner, jobs, attempt }
    }
}

/// What servers have made of one task.
pub struct Task<'a> {
    pub owner: Option<&'a Object>,
    pub jobs: Vec<&'a Object>,
    /// The latest.
    pub attempt: u32,
}

impl Task<'_> {
    /// Since when everybody is to see it; `None` while nobody is.
    pub fn visible_since(&self) -> Option<Instant> {
        let first = self.jobs.iter().map(|job| job.made).min()?;
        match self.owner {
            Some(owner) => owner.committed.map(|committed| committed.max(first)),
            None => Some(first),
        }
    }

    /// Since when its deletion has begun.
    pub fn deleted_since(&self) -> Option<Instant> {
        if let Some(owner) = self.owner {
            return owner.deleted;
        }
        self.jobs.iter().map(|job| job.deleted).max().flatten()
    }

    /// Since when all of it is gone.
    pub fn gone_since(&self) -> Option<Instant> {
        let all = self.jobs.iter().copied().chain(self.owner);
        all.map(|object| object.gone)
            .reduce(|left, right| Some(left?.max(right?)))
            .flatten()
    }

    /// Whether it is there, for everybody to see.
    pub fn is_there(&self) -> bool {
        self.visible_since().is_some() && self.deleted_since().is_none() && self.jobs.iter().any(|job| job.is_there())
    }

    /// Whether nobody has touched its labels since a moment.
    pub fn is_untouched_since(&self, moment: Instant) -> bool {
        self.jobs
            .iter()
            .copied()
            .chain(self.owner)
            .filter(|object| object.is_there())
            .all(|object| object.is_untouched_since(moment))
    }

    /// The Jobs of the present attempt.
    pub fn present(&self) -> impl Iterator<Item = &Object> {
        self.jobs.iter().copied().filter(|job| job.attempt == self.attempt)
    }

    /// Whose it is.
    pub fn user(&self) -> &str {
        let any = self.owner.or_else(|| self.jobs.first().copied());
        any.map_or("", |object| object.user.as_str())
    }
}
