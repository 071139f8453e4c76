//! The words that say why a node is in its state, and which of several nodes is the cause.

use task::State;
use task::status::NodeStatus;

/// A node whose container runs, and waits for the others of its task.
pub(super) const WAITING_FOR_NODES: &str = "WaitingForNodes";

/// A node that was ended because another had failed.
pub(super) const NODE_FAILED: &str = "NodeFailed";

/// A node that had no place on a machine for longer than its task wanted to wait.
pub(super) const NO_PLACE_IN_TIME: &str = "ProvisionTimeout";

/// A pod that somebody deleted before it had ended.
pub(super) const POD_DELETED: &str = "PodDeleted";

/// Kubernetes' word for a pod that ran too long.
pub(super) const DEADLINE_EXCEEDED: &str = "DeadlineExceeded";

/// What the cluster does to a pod that has done nothing wrong.
/// Sources: <https://kubernetes.io/docs/concepts/workloads/pods/disruptions/#pod-disruption-conditions>, and the reasons that the
/// kubelet writes (<https://kubernetes.io/docs/concepts/cluster-administration/node-shutdown/>).
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

/// Whether it was the cluster and not the task.
pub(super) fn is_disruption(reason: &str) -> bool {
    DISRUPTIONS.contains(&reason)
}

/// The node that is the cause of a state; the others may be in it because of that one.
pub(super) fn cause(nodes: &[NodeStatus], state: State) -> Option<&NodeStatus> {
    nodes
        .iter()
        .filter(|node| node.status == state && node.reason.is_some())
        .min_by_key(|node| {
            let follows = matches!(node.reason.as_deref(), Some(WAITING_FOR_NODES | NODE_FAILED));
            // What the cluster did to one node is what the others failed of in the same second.
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
