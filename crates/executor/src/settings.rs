//! What the operator has decided for all tasks of a namespace.

use std::time::Duration;

use clock::Clock;

/// A kubelet lists its containers each second, after it is done with the list before, and knows nothing newer of a pod until then
/// (`genericPlegRelistPeriod` in `pkg/kubelet/kubelet.go` of kubernetes/kubernetes). The rest is for the list itself.
pub const KUBELET_HEARS_WITHIN: Duration = Duration::from_millis(1500);

/// How an executor is set up.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The namespace of all tasks and volumes; the client's own when absent.
    pub namespace: Option<String>,
    /// What holds for tasks that say nothing of it.
    pub defaults: Defaults,
    /// What the pods of all tasks are like.
    pub pods: PodSettings,
    /// Which claims without an owner a task may mount.
    pub shared_claims: SharedClaims,
    /// After how long at most a node hears of a change of a pod that it has just looked at: [`KUBELET_HEARS_WITHIN`] for a kubelet,
    /// and nothing for one that is told of each change at once.
    pub hears_within: Duration,
    /// The time of day.
    pub clock: Clock,
}

/// What holds for tasks that say nothing of it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Defaults {
    /// How long each node may run; for ever when absent.
    pub max_duration: Option<Duration>,
    /// How long the nodes may wait for a place on a machine; for ever when absent.
    pub provision_timeout: Option<Duration>,
    /// How long a task is kept after its end; until it is stopped when absent.
    pub ttl_after_finished: Option<Duration>,
}

/// What the pods of all tasks are like.
#[derive(Debug, Clone, Default)]
pub struct PodSettings {
    /// What they keep to.
    pub security: PodSecurity,
    /// The service account whose token they get; without one they get none.
    pub service_account: Option<String>,
}

/// A Pod Security Standard (<https://kubernetes.io/docs/concepts/security/pod-security-standards/>).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PodSecurity {
    /// Nothing beyond what every pod of ours keeps to: no privileges that an image does not bring along.
    #[default]
    Baseline,
    /// No root, no way to become root, no capabilities.
    Restricted,
}

/// Which claims that belong to no user of this server a task may mount by their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SharedClaims {
    /// All in the namespace, as the Python implementation has it.
    #[default]
    Any,
    /// Those with the label `k8s-cli/shared=true`.
    Labelled,
}
