//! The error type of this crate, and how failures of the Kubernetes API are worded.

use std::time::Duration;

use kube::client::AuthError;
use kube::core::Status;
use task::validation::LocItem;

/// How many of a credential plugin's last lines are shown: the last ones usually say what to do.
const MAX_PLUGIN_LINES: usize = 5;

/// Every failure of this crate. Callers decide by variant; the text is for users.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither a kubeconfig nor a service account names a cluster.
    #[error("no Kubernetes cluster is configured; set `KUBECONFIG` or run inside a cluster")]
    NoCluster,
    /// The kubeconfig or the service account is invalid.
    #[error("invalid Kubernetes configuration: {reason}")]
    Configuration {
        /// What is invalid.
        reason: String,
    },
    /// A call was refused, or did not reach the Kubernetes API.
    #[error("could not {action}: {}", describe_kube_error(source))]
    Kubernetes {
        /// What the call was for, in the form "could not ...".
        action: &'static str,
        /// The client's error.
        source: Box<kube::Error>,
    },
    /// A call was not answered in time.
    #[error("could not {action}: the Kubernetes API did not respond within {}s", limit.as_secs())]
    Timeout {
        /// What the call was for, in the form "could not ...".
        action: &'static str,
        /// The time limit of the call.
        limit: Duration,
    },
    /// The watch cache is too old to answer from.
    #[error("no updates from the Kubernetes API for {}s: {reason}; try again later", since.as_secs())]
    OutOfSync {
        /// How old the cache is.
        since: Duration,
        /// The last failure of a list or watch, in its own words.
        reason: String,
    },
    /// RBAC denies something the server needs.
    #[error("the server lacks permissions in namespace `{namespace}`: {}; grant them as described in docs/OPERATIONS.md", missing.join(", "))]
    MissingPermissions {
        /// The namespace of the tasks.
        namespace: String,
        /// The missing permissions, each as verb and resource.
        missing: Vec<String>,
    },
    /// The namespace of the tasks does not exist.
    #[error("namespace `{namespace}` not found; create it, or choose another one with `--namespace`")]
    NamespaceNotFound {
        /// The name of the namespace.
        namespace: String,
    },
    /// The Pod Security Standard of the namespace rejects every pod of this server.
    #[error(
        "namespace `{namespace}` enforces the `{level}` Pod Security Standard, which the pods of this server violate; start the server with `--pod-security restricted` ({warning})"
    )]
    PodSecurity {
        /// The name of the namespace.
        namespace: String,
        /// The enforced level.
        level: String,
        /// The warning of the Kubernetes API.
        warning: String,
    },
    /// The first lists did not complete in time.
    #[error("timed out after {}s waiting for the initial state of the cluster: {reason}", limit.as_secs())]
    InitialSyncTimeout {
        /// How long the server waited.
        limit: Duration,
        /// The last failure.
        reason: String,
    },
    /// A task names a volume that does not exist, or that belongs to another user.
    #[error(
        "volume \"{volume}\" not found; create it with `k8s-cli volumes create {volume} SIZE{}`",
        if *for_many { " -a ReadWriteMany" } else { "" }
    )]
    VolumeNotFound {
        /// The key of the task that names it: `volumes` or `file_mounts`.
        key: &'static str,
        /// The mount path in the task.
        path: Box<str>,
        /// The name of the volume in the task.
        volume: String,
        /// Whether several nodes mount it.
        for_many: bool,
    },
    /// A task with several nodes mounts a volume that only one cluster node can mount.
    #[error(
        "only one cluster node at a time can mount the volume `{volume}` ({mode}); a task with several nodes requires one with the access mode ReadWriteMany, e.g., from `k8s-cli volumes create NAME SIZE -a ReadWriteMany`"
    )]
    VolumeNotShared {
        /// The key of the task that names it: `volumes` or `file_mounts`.
        key: &'static str,
        /// The mount path in the task.
        path: Box<str>,
        /// The name of the volume in the task.
        volume: String,
        /// Its access mode.
        mode: Box<str>,
    },
    /// RBAC denies the list of cluster nodes, which only some requests need.
    #[error("the server has no permission to list cluster nodes; grant it as described in docs/OPERATIONS.md")]
    NodesForbidden,
    /// A field of `config.kubernetes.pod_config` is unknown, has the wrong type, or may not be set.
    #[error("{reason}")]
    PodConfig {
        /// The location of the field in the request.
        loc: Vec<LocItem>,
        /// What is wrong with it.
        reason: String,
    },
    /// Kubernetes rejects the pod of a task with a `pod_config`.
    #[error("Kubernetes rejects the pod: {source}")]
    PodConfigRejected {
        /// The rejection.
        source: Box<Error>,
    },
    /// No cluster node has what a task asks for, e.g., the model of a GPU.
    #[error("{}", reasons.join("; "))]
    Unplaceable {
        /// Why each alternative of the task's resources cannot be used.
        reasons: Vec<String>,
    },
    /// A task of a group was rejected.
    #[error("task {}: {source}", index + 1)]
    InGroup {
        /// The index of the task.
        index: usize,
        /// Why.
        source: Box<Error>,
    },
    /// The same `Idempotency-Key` was submitted with a different task.
    #[error("the Idempotency-Key was already used for a different task; use a new key")]
    IdempotencyKeyReused,
    /// An object that this server did not create has the name that an `Idempotency-Key` reserves.
    #[error("the Idempotency-Key cannot be used: an unrelated object already has its name; use a new key")]
    IdempotencyKeyTaken,
    /// The task of an `Idempotency-Key` is being deleted.
    #[error("the task with this Idempotency-Key is being stopped; try again once it is gone, or use a new key")]
    IdempotencyKeyTerminating,
    /// A Job that this server did not create has the name of the Job of the next attempt.
    #[error("an unrelated Job is already named `{name}`; delete it so that the task can be retried")]
    NameTaken {
        /// The name of the Job.
        name: String,
    },
    /// Every generated ID was already in use.
    #[error("no unused ID found in {tries} tries")]
    NoFreeId {
        /// How many IDs were tried.
        tries: usize,
    },
    /// The objects of a task could not be created in time.
    #[error("timed out after {}s creating the Kubernetes objects of the task", limit.as_secs())]
    SubmitDeadline {
        /// The time limit of the submit.
        limit: Duration,
    },
    /// Other servers changed a task whenever it was about to be canceled.
    #[error("the task changed at the same time; try again")]
    CancelConflict,
    /// Some of several tasks could not be canceled.
    #[error("canceled {cancelled} tasks; could not cancel {}", failures.join("; "))]
    CancelAll {
        /// How many were canceled.
        cancelled: usize,
        /// The others, each as ``task `ID`: reason``.
        failures: Vec<String>,
    },
    /// Some of several tasks could not be stopped.
    #[error("stopped {stopped} tasks; could not stop {}", failures.join("; "))]
    StopAll {
        /// How many were stopped.
        stopped: usize,
        /// The others, each as ``task `ID`: reason``.
        failures: Vec<String>,
    },
    /// The log of a past task was deleted to make room for others.
    #[error("the log of task {id} is no longer in the archive")]
    LogDeleted {
        /// The ID of the task.
        id: String,
    },
    /// The archive failed.
    #[error(transparent)]
    Archive {
        /// Why. In a box, because it is larger than all other errors.
        source: Box<archive::Error>,
    },
    /// A task names files that its user has not uploaded, or not completely.
    #[error("the files are not stored; upload file set `{id}` again")]
    FilesNotStored {
        /// The ID of the file set.
        id: String,
    },
    /// A task on this machine has files that would be written to the machine itself.
    #[error(
        "on this machine, a task's files must be in its working folder or in one of its volumes, not at `{path}`; use a relative path"
    )]
    FilesElsewhere {
        /// The path in the task.
        path: String,
    },
    /// A task on this machine copies something to the machine itself.
    #[error(
        "on this machine, a task can copy only to its working folder or to one of its volumes, not to `{path}`; use a relative path"
    )]
    CopyElsewhere {
        /// The path in the task.
        path: String,
    },
    /// A task copies from a bucket or a web server, and its nodes have no program for it.
    #[error("to copy from buckets, the server needs `--helper-image`; copy the data in `setup`, e.g., `{command}`")]
    CannotCopy {
        /// A command that copies.
        command: String,
    },
    /// The files of a task are too large to bring them to its nodes.
    #[error("{reason}; leave out large files, or store them in a volume")]
    FilesTooLarge {
        /// Which limit they exceed.
        reason: String,
    },
    /// A task has outputs, which its node cannot send to the server.
    #[error("the server cannot keep outputs without {settings}; write them to a volume instead")]
    OutputsNotKept {
        /// The settings that it lacks.
        settings: String,
    },
    /// Others' files are being packed.
    #[error("the server is busy with the files of other tasks; try again in a minute")]
    FilesBusy,
    /// Kubernetes holds as many files as it may.
    #[error(
        "the files of {whose} unfinished tasks would take {bytes} in Kubernetes, more than the limit of {limit}; wait until some of these tasks have ended, or submit tasks with the same files together, as a sweep"
    )]
    FilesFull {
        /// Whose tasks: `your` or `all`.
        whose: &'static str,
        /// What they would take.
        bytes: String,
        /// What they may take.
        limit: String,
    },
    /// Somebody else has created, changed, or deleted a ConfigMap with files of the task.
    #[error("the ConfigMap `{name}` with files of the task was changed or deleted by another client; try again")]
    FilesInUse {
        /// The name of the ConfigMap.
        name: String,
    },
    /// The files of a task could not be packed.
    #[error("could not pack the files of the task")]
    Files {
        /// Why. In a box, because it is larger than all other errors.
        source: Box<files::Error>,
    },
    /// The server is stopping.
    #[error("the server is stopping; try again in a moment")]
    Stopping,
    /// A Kubernetes object could not be serialized.
    #[error("could not encode a Kubernetes object")]
    Encoding {
        /// The serialization error.
        source: serde_json::Error,
    },
    /// A background future of this process panicked.
    #[error("internal error: a background operation failed")]
    Internal {
        /// How the future ended.
        #[from]
        source: tokio::task::JoinError,
    },
}

impl From<archive::Error> for Error {
    fn from(source: archive::Error) -> Self {
        let source = Box::new(source);
        Self::Archive { source }
    }
}

impl Error {
    /// Whether the object was not found.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.status().is_some_and(Status::is_not_found)
    }

    /// Whether another object has the name.
    #[must_use]
    pub fn is_already_exists(&self) -> bool {
        self.status().is_some_and(Status::is_already_exists)
    }

    /// Whether the Kubernetes API rejected the content of an object.
    #[must_use]
    pub fn is_invalid(&self) -> bool {
        self.status().is_some_and(|status| matches!(status.code, 400 | 422))
    }

    /// Whether the Kubernetes API answered 403.
    #[must_use]
    pub fn is_forbidden(&self) -> bool {
        self.status().is_some_and(|status| status.code == 403)
    }

    /// Whether a precondition was not met.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        self.status().is_some_and(Status::is_conflict)
    }

    /// Whether the same call may succeed a moment later: the API was busy, or could not be reached.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Timeout { .. } => true,
            Self::Kubernetes { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => status.code == 429 || status.code >= 500,
                kube::Error::HyperError(_) | kube::Error::Service(_) => true,
                _ => false,
            },
            _ => false,
        }
    }

    /// Whether the failed change may have been made, or may still be: no answer says that it was not. 429 is such an
    /// answer, because the kube-apiserver sends it before it processes the request.
    #[must_use]
    pub fn is_ambiguous(&self) -> bool {
        match self {
            Self::SubmitDeadline { .. } => true,
            error => error.is_transient() && self.status().is_none_or(|status| status.code != 429),
        }
    }

    fn status(&self) -> Option<&Status> {
        match self {
            Self::Kubernetes { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => Some(status),
                _ => None,
            },
            _ => None,
        }
    }
}

/// The message of the Kubernetes API where there is one; the client's own wrapping repeats it.
pub(crate) fn describe_kube_error(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        kube::Error::Api(status) => format!("the Kubernetes API returned {} {}", status.code, status.reason),
        kube::Error::HyperError(_) | kube::Error::Service(_) | kube::Error::ReadEvents(_) => {
            format!(
                "the Kubernetes API{} is unreachable: {}",
                cluster_url(error),
                root_cause(error)
            )
        }
        kube::Error::Auth(error) => describe_auth_error(error, None),
        other => other.to_string(),
    }
}

/// A connection could not be made, or broke.
#[derive(Debug, thiserror::Error)]
#[error("could not reach `{url}`")]
pub(crate) struct ConnectError {
    /// The address of the cluster.
    pub url: String,
    /// The connection error.
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// The address of the cluster, where the error carries it.
fn cluster_url(error: &kube::Error) -> String {
    let reached = std::error::Error::source(error).and_then(|source| source.downcast_ref::<ConnectError>());
    reached
        .map(|reached| format!(" at `{}`", reached.url))
        .unwrap_or_default()
}

/// Why there are no credentials, with the output of the plugin, which the client would show as a list of bytes.
pub(crate) fn describe_auth_error(error: &AuthError, plugin: Option<&str>) -> String {
    let plugin = plugin.map(|command| format!(" `{command}`")).unwrap_or_default();
    let why = match error {
        AuthError::AuthExecStart(source) => format!("cannot run credential plugin{plugin}: {source}"),
        // The command in the client's error is in Rust's debug format and includes the environment, so it is not shown.
        AuthError::AuthExecRun { out, .. } => {
            let stderr = String::from_utf8_lossy(&out.stderr);
            let stderr: Vec<&str> = stderr.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
            let stderr = stderr[stderr.len().saturating_sub(MAX_PLUGIN_LINES)..].join("; ");
            let stderr = if stderr.is_empty() {
                "no output".to_owned()
            } else {
                stderr
            };
            format!("credential plugin{plugin} failed ({}): {stderr}", out.status)
        }
        AuthError::AuthExecParse(source) => {
            format!(
                "credential plugin{plugin} returned invalid output: {}",
                first_line(&source.to_string())
            )
        }
        other => first_line(&other.to_string()),
    };
    format!("no credentials for the Kubernetes API: {why}")
}

/// Drops the source excerpt that some parsers draw below the first line.
pub(crate) fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

/// The innermost cause: the outer ones only name the layers that the error passed through.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// Whether the requested resource version is no longer available.
pub(crate) fn is_expired(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 410)
}
