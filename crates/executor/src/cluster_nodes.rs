//! Summarizes cluster nodes for users who want to know why nothing is scheduled.

use std::collections::BTreeMap;

use task::wire::ClusterNode;

use crate::kubernetes::{Node, Quantity, ResourceExt};

/// The extended resources of the common GPU device plugins.
const GPUS: [&str; 3] = ["nvidia.com/gpu", "amd.com/gpu", "gpu.intel.com/i915"];

/// The summary of a cluster node.
pub(crate) fn summarize(node: &Node) -> ClusterNode {
    let status = node.status.as_ref();
    let allocatable = status.and_then(|status| status.allocatable.as_ref());
    let conditions = status.and_then(|status| status.conditions.as_ref());
    let is_ready = conditions
        .into_iter()
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True");
    let is_cordoned = node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or(false);
    ClusterNode {
        name: node.name_any(),
        ready: is_ready && !is_cordoned,
        cpus: amount(allocatable, "cpu"),
        memory: amount(allocatable, "memory"),
        gpus: GPUS
            .iter()
            .filter_map(|name| amount(allocatable, name).parse::<u32>().ok())
            .sum(),
    }
}

fn amount(allocatable: Option<&BTreeMap<String, Quantity>>, name: &str) -> String {
    allocatable
        .and_then(|amounts| amounts.get(name))
        .map_or_else(|| "0".to_owned(), |amount| amount.0.clone())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::summarize;

    #[test]
    fn a_cordoned_machine_takes_no_tasks() {
        let node = |unschedulable: bool| {
            let node = json!({
                "metadata": {"name": "m"},
                "spec": {"unschedulable": unschedulable},
                "status": {
                    "allocatable": {"cpu": "8", "memory": "16Gi", "nvidia.com/gpu": "2"},
                    "conditions": [{"type": "Ready", "status": "True"}],
                },
            });
            summarize(&serde_json::from_value(node).unwrap())
        };
        assert!(node(false).ready && !node(true).ready);
        assert_eq!((node(false).cpus.as_str(), node(false).gpus), ("8", 2));
    }
}
