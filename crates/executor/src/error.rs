//! What can go wrong between a task and Kubernetes.

use std::time::Duration;

use kube::core::Status;

/// Every failure of this crate. A caller decides by variant; the text is for people.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing in the environment names a cluster.
    #[error("no Kubernetes cluster is configured; set `KUBECONFIG`, or run inside a cluster")]
    NoCluster,
    /// What names the cluster cannot be used.
    #[error("the Kubernetes configuration cannot be used")]
    Configuration {
        /// What is wrong with it.
        source: Box<dyn std::error::Error + Send + Sync>,
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
    #[error("the Kubernetes API has not been reachable for {} s; try again later", since.as_secs())]
    OutOfSync {
        /// Since when.
        since: Duration,
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
fn explain(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        kube::Error::Api(status) => format!("the Kubernetes API answered {} {}", status.code, status.reason),
        kube::Error::HyperError(_) | kube::Error::Service(_) => {
            let mut cause: &dyn std::error::Error = error;
            while let Some(inner) = cause.source() {
                cause = inner;
            }
            format!("the Kubernetes API was not reached: {cause}")
        }
        other => other.to_string(),
    }
}
