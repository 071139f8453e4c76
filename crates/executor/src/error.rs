//! What can go wrong between a task and Kubernetes.

use std::time::Duration;

use kube::client::AuthError;
use kube::core::Status;

/// How many of a credential plugin's last lines are told.
const MAX_PLUGIN_LINES: usize = 5;

/// Every failure of this crate. A caller decides by variant; the text is for people.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing in the environment names a cluster.
    #[error("no Kubernetes cluster is configured; set `KUBECONFIG`, or run inside a cluster")]
    NoCluster,
    /// What names the cluster cannot be used.
    #[error("the Kubernetes configuration cannot be used: {reason}")]
    Configuration {
        /// What is wrong with it.
        reason: String,
    },
    /// A call was refused or did not arrive.
    #[error("could not {action}: {}", explain(source))]
    Kubernetes {
        /// What was tried.
        action: &'static str,
        /// What happened.
        source: Box<kube::Error>,
    },
    /// A call was not answered.
    #[error("could not {action}: the Kubernetes API did not answer within {} s", limit.as_secs())]
    Timeout {
        /// What was tried.
        action: &'static str,
        /// How long.
        limit: Duration,
    },
    /// The watch cache does not know the present state.
    #[error("the state of the cluster has not been seen for {} s: {reason}; try again later", since.as_secs())]
    OutOfSync {
        /// Since when.
        since: Duration,
        /// What failed last, in its own words.
        reason: String,
    },
    /// The server may not do everything that it has to.
    #[error("the server lacks rights in the namespace `{namespace}`: {}; give them to it as docs/OPERATIONS.md says", missing.join(", "))]
    MissingRights {
        /// Where.
        namespace: String,
        /// Each as verb and resource.
        missing: Vec<String>,
    },
    /// The namespace of the tasks does not exist.
    #[error("the namespace `{namespace}` does not exist; create it, or choose another with `--namespace`")]
    NoNamespace {
        /// Its name.
        namespace: String,
    },
    /// The namespace lets no pod run that this server makes.
    #[error(
        "the namespace `{namespace}` enforces the Pod Security Standard `{level}`, which the pods of this server do not meet; start it with `--pod-security restricted` ({warning})"
    )]
    PodSecurity {
        /// Its name.
        namespace: String,
        /// What it enforces.
        level: String,
        /// What Kubernetes says of our pods.
        warning: String,
    },
    /// The first lists did not arrive.
    #[error("the state of the cluster could not be read within {} s: {reason}", limit.as_secs())]
    NeverInSync {
        /// How long it was tried.
        limit: Duration,
        /// The last failure.
        reason: String,
    },
    /// A task names a volume that its user cannot use.
    #[error("volume \"{volume}\" not found")]
    VolumeNotFound {
        /// Where the task wants it.
        path: String,
        /// What the task calls it.
        volume: String,
    },
    /// An `Idempotency-Key` came again with another task.
    #[error("the Idempotency-Key was used for another task; use a new key for a new task")]
    IdempotencyKeyReused,
    /// Somebody else has made an object that has the name of an `Idempotency-Key`.
    #[error("the Idempotency-Key cannot be used: another object has its name; use a new key")]
    IdempotencyKeyTaken,
    /// The task of an `Idempotency-Key` is on its way.
    #[error("the task of the Idempotency-Key is being stopped; try again when it is gone, or use a new key")]
    IdempotencyKeyTerminating,
    /// Somebody else has made a Job where the next attempt of a task has to be.
    #[error("another Job has the name `{name}`; delete it, so that the task can be run again")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// No free identifier was found.
    #[error("no free identifier was found in {tries} tries")]
    NoFreeId {
        /// How many were tried.
        tries: usize,
    },
    /// A task could not be made within its time.
    #[error("the Kubernetes objects could not be created within {} s", limit.as_secs())]
    SubmitDeadline {
        /// How long.
        limit: Duration,
    },
    /// Some of several tasks could not be stopped.
    #[error("stopped {stopped} tasks; not stopped: {}", failures.join("; "))]
    StopAll {
        /// How many were stopped.
        stopped: usize,
        /// The others, each with its reason.
        failures: Vec<String>,
    },
    /// An object of ours is no JSON.
    #[error("a Kubernetes object could not be encoded")]
    Encoding {
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// Our own code failed.
    #[error("an internal task failed")]
    Internal {
        /// How it ended.
        #[from]
        source: tokio::task::JoinError,
    },
}

impl Error {
    /// Whether the object does not exist.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.status().is_some_and(Status::is_not_found)
    }

    /// Whether the name is taken.
    #[must_use]
    pub fn is_already_exists(&self) -> bool {
        self.status().is_some_and(Status::is_already_exists)
    }

    /// Whether we may not do this.
    #[must_use]
    pub fn is_forbidden(&self) -> bool {
        self.status().is_some_and(|status| status.code == 403)
    }

    /// Whether a precondition was not met.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        self.status().is_some_and(Status::is_conflict)
    }

    /// Whether the same call may succeed a moment later: the server was busy, or was not reached.
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

    /// Whether what failed may have been done, or may yet be: no answer has come that says it was not.
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

/// Kubernetes' own sentence where there is one; the client's wrapping says the same thing twice.
pub(crate) fn explain(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        kube::Error::Api(status) => format!("the Kubernetes API answered {} {}", status.code, status.reason),
        kube::Error::HyperError(_) | kube::Error::Service(_) | kube::Error::ReadEvents(_) => {
            format!(
                "the Kubernetes API{} was not reached: {}",
                place(error),
                root_cause(error)
            )
        }
        kube::Error::Auth(error) => credentials(error, None),
        other => other.to_string(),
    }
}

/// That no connection was made, or it broke.
#[derive(Debug, thiserror::Error)]
#[error("`{url}` was not reached")]
pub(crate) struct NotReached {
    /// Where it was tried.
    pub url: String,
    /// Why.
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// Where the API server was looked for, if that is known.
fn place(error: &kube::Error) -> String {
    let reached = std::error::Error::source(error).and_then(|source| source.downcast_ref::<NotReached>());
    reached
        .map(|reached| format!(" at `{}`", reached.url))
        .unwrap_or_default()
}

/// Why there are no credentials; in the plugin's own words, when it has any. The client shows them as Rust writes bytes.
pub(crate) fn credentials(error: &AuthError, plugin: Option<&str>) -> String {
    let plugin = plugin.map(|command| format!(" `{command}`")).unwrap_or_default();
    let why = match error {
        AuthError::AuthExecStart(source) => format!("the credential plugin{plugin} cannot be run: {source}"),
        // The command that the client gives is as Rust writes it, with its variables.
        AuthError::AuthExecRun { out, .. } => {
            let said = String::from_utf8_lossy(&out.stderr);
            let said: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
            let said = said[said.len().saturating_sub(MAX_PLUGIN_LINES)..].join("; ");
            let said = if said.is_empty() {
                "it wrote nothing".to_owned()
            } else {
                said
            };
            format!("the credential plugin{plugin} failed ({}): {said}", out.status)
        }
        AuthError::AuthExecParse(source) => {
            format!(
                "the credential plugin{plugin} does not answer as one: {}",
                first_line(&source.to_string())
            )
        }
        other => first_line(&other.to_string()),
    };
    format!("there are no credentials for the Kubernetes API: {why}")
}

/// Some errors draw a picture below their first line.
pub(crate) fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

/// The last cause: the outer ones only say on whose behalf it was.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// Whether what was asked for is too old to be known.
pub(crate) fn is_expired(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 410)
}
