//! Summarizes cluster nodes for users who want to know why nothing is scheduled.

use task::wire::ClusterNode;

use crate::placement::Machine;

/// The summary of a cluster node.
pub(crate) fn summarize(machine: &Machine) -> ClusterNode {
    ClusterNode {
        name: machine.name.clone(),
        ready: machine.is_ready,
        cpus: machine.amount("cpu").to_owned(),
        memory: machine.amount("memory").to_owned(),
        gpus: machine.gpus(),
    }
}
