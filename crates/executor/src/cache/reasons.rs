//! The `reason` words of a status, and which node's reason the task shows.

use task::TaskState;
use task::wire::NodeStatus;

/// The container runs but waits for the other nodes of the task.
pub(super) const WAITING_FOR_NODES: &str = "WaitingForNodes";

/// The node was ended because another one failed.
pub(super) const NODE_FAILED: &str = "NodeFailed";

/// The node could not be scheduled within the provisioning timeout.
pub(super) const NO_PLACE_IN_TIME: &str = "ProvisionTimeout";

/// Somebody deleted the pod before it finished.
pub(super) const POD_DELETED: &str = "PodDeleted";

/// Kubernetes' reason for a pod or Job that exceeded its deadline.
pub(super) const DEADLINE_EXCEEDED: &str = "DeadlineExceeded";

/// Reasons for which the cluster ends a pod through no fault of the task.
/// Sources: <https://kubernetes.io/docs/concepts/workloads/pods/disruptions/#pod-disruption-conditions>, and the
/// reasons set by the kubelet (<https://kubernetes.io/docs/concepts/cluster-administration/node-shutdown/>).
const DISRUPTIONS: &[&str] = &[
    "PreemptionByScheduler",
    "DeletionByTaintManager",
    "EvictionByEvictionAPI",
    "DeletionByPodGC",
    "TerminationByKubelet",
    "DisruptionTarget",
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
pub(super) fn cause(nodes: &[NodeStatus], state: TaskState) -> Option<&NodeStatus> {
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
