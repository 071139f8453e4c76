//! The `reason` words of a status, ours and Kubernetes', and which node's reason the task shows.

use task::TaskState;
use task::wire::NodeStatus;

/// Why something is in its state, in the form of a Kubernetes condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// A CamelCase word, e.g., `Unschedulable` or `OOMKilled`.
    pub reason: String,
    /// A sentence for users.
    pub message: String,
}

impl Reason {
    pub fn new(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            message: message.into(),
        }
    }
}

/// A task that was stopped but still exists.
pub(super) const TERMINATING: &str = "Terminating";

/// A task between two attempts.
pub(super) const RECOVERING: &str = "Recovering";

/// The node released its resources to an earlier task.
pub(super) const GAVE_WAY: &str = "GaveWay";

/// The group of the task has not started it yet.
pub(super) const WAITING_FOR_GROUP: &str = "WaitingForGroup";

/// The Job of the node is suspended, e.g., by a queue.
pub(super) const SUSPENDED: &str = "Suspended";

/// The pod is being created, scheduled, or deleted.
pub(super) const PENDING: &str = "Pending";

/// Somebody deleted the Job of the node.
pub(super) const JOB_DELETED: &str = "JobDeleted";

/// The Job of the node was not created yet.
pub(super) const JOB_MISSING: &str = "JobMissing";

/// An init container that a webhook has injected failed.
pub(super) const INIT_CONTAINER_FAILED: &str = "InitContainerFailed";

/// The container runs but waits for the other nodes of the task.
pub(super) const WAITING_FOR_NODES: &str = "WaitingForNodes";

/// The node was ended because another one failed.
pub(super) const NODE_FAILED: &str = "NodeFailed";

/// The node could not be scheduled within the provisioning timeout.
pub(super) const PROVISION_TIMEOUT: &str = "ProvisionTimeout";

/// The user canceled the task, and its nodes are ending.
pub(super) const CANCELLING: &str = "Cancelling";

/// The user canceled the task.
pub(crate) const CANCELLED: &str = "Cancelled";

/// Somebody deleted the pod before it finished.
pub(super) const POD_DELETED: &str = "PodDeleted";

/// Kubernetes' reason for a pod or Job that exceeded its deadline.
pub(super) const DEADLINE_EXCEEDED: &str = "DeadlineExceeded";

/// Kubernetes' reason for a Job whose pod failed.
pub(super) const BACKOFF_LIMIT_EXCEEDED: &str = "BackoffLimitExceeded";

/// Kubernetes' reason for a Job whose pod cannot be created.
pub(super) const FAILED_CREATE: &str = "FailedCreate";

/// Kubernetes' reason for a Job or pod that failed without a better one.
pub(super) const FAILED: &str = "Failed";

/// Kubernetes' reason for a container that exited with another code than 0.
pub(super) const ERROR: &str = "Error";

/// Kubernetes' reason for a container that exceeded its memory limit.
pub(super) const OOM_KILLED: &str = "OOMKilled";

/// Kubernetes' reason for a pod that the scheduler cannot place.
pub(super) const UNSCHEDULABLE: &str = "Unschedulable";

/// Kubernetes' reason for a pod that a scheduling gate holds back
/// (<https://kubernetes.io/docs/concepts/scheduling-eviction/pod-scheduling-readiness/>).
pub(super) const SCHEDULING_GATED: &str = "SchedulingGated";

/// Kubernetes' reason for a container whose image and volumes are being prepared.
pub(super) const CONTAINER_CREATING: &str = "ContainerCreating";

/// Kubernetes' reason for a container that waits for init containers.
pub(super) const POD_INITIALIZING: &str = "PodInitializing";

/// Kubernetes' condition of a pod that the cluster ends, and its reason without a better one.
pub(super) const DISRUPTION_TARGET: &str = "DisruptionTarget";

/// Reasons for which the cluster ends a pod through no fault of the task.
/// Sources: <https://kubernetes.io/docs/concepts/workloads/pods/disruptions/#pod-disruption-conditions>, and the
/// reasons set by the kubelet (<https://kubernetes.io/docs/concepts/cluster-administration/node-shutdown/>).
const DISRUPTIONS: &[&str] = &[
    "PreemptionByScheduler",
    "DeletionByTaintManager",
    "EvictionByEvictionAPI",
    "DeletionByPodGC",
    "TerminationByKubelet",
    DISRUPTION_TARGET,
    "Evicted",
    "Preempting",
    "NodeLost",
    "NodeShutdown",
    "Terminated",
    POD_DELETED,
];

pub(super) fn is_disruption(reason: &str) -> bool {
    DISRUPTIONS.contains(&reason)
}

/// The node that caused the state of the task; the others may only have followed it.
pub(super) fn deciding_node(nodes: &[NodeStatus], state: TaskState) -> Option<&NodeStatus> {
    nodes
        .iter()
        .filter(|node| node.status == state && node.reason.is_some())
        .min_by_key(|node| {
            let follows = matches!(node.reason.as_deref(), Some(WAITING_FOR_NODES | NODE_FAILED));
            // When the cluster ends one node, the others often fail in the same second because they lost their peer.
            let is_own = !node.reason.as_deref().is_some_and(is_disruption);
            (
                follows,
                is_own,
                node.finished_at.is_none(),
                node.finished_at.clone(),
                node.rank,
            )
        })
}
