//! What matters about a cluster node for where tasks can run.

use std::collections::BTreeMap;

use quantity::Quantity;
use task::definition::Vendor;

use crate::kubernetes::{self, Node, ResourceExt};

/// The extended resources of the common device plugins.
const NVIDIA_GPU: &str = "nvidia.com/gpu";
const AMD_GPU: &str = "amd.com/gpu";
const GOOGLE_TPU: &str = "google.com/tpu";
const INTEL_GPU: &str = "gpu.intel.com/i915";

/// All of them.
pub(crate) const ACCELERATORS: [&str; 4] = [NVIDIA_GPU, AMD_GPU, GOOGLE_TPU, INTEL_GPU];

/// The resource that a node requests for the accelerators of a vendor.
pub(crate) fn resource_name(vendor: Vendor) -> &'static str {
    match vendor {
        Vendor::Nvidia => NVIDIA_GPU,
        Vendor::Amd => AMD_GPU,
        Vendor::Google => GOOGLE_TPU,
    }
}

/// A cluster node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Machine {
    /// Its name.
    pub name: String,
    /// Whether new pods can be scheduled on it.
    pub is_ready: bool,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its allocatable amounts, as Kubernetes writes them.
    pub allocatable: BTreeMap<String, String>,
}

impl Machine {
    /// Reads the fields of a node.
    pub(crate) fn from_resource(node: Node) -> Self {
        let name = node.name_any();
        let status = node.status.unwrap_or_default();
        let mut conditions = status.conditions.iter().flatten();
        let is_ready = conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True");
        let is_cordoned = node.spec.and_then(|spec| spec.unschedulable).unwrap_or(false);
        let allocatable = status.allocatable.unwrap_or_default().into_iter();
        Self {
            name,
            is_ready: is_ready && !is_cordoned,
            labels: node.metadata.labels.unwrap_or_default(),
            allocatable: allocatable
                .map(|(name, kubernetes::Quantity(amount))| (name, amount))
                .collect(),
        }
    }

    /// An allocatable amount, as Kubernetes writes it.
    pub(crate) fn amount(&self, name: &str) -> &str {
        self.allocatable.get(name).map_or("0", String::as_str)
    }

    /// An allocatable amount in billionths.
    pub(crate) fn nanos(&self, name: &str) -> i128 {
        nanos(self.amount(name))
    }

    /// The number of allocatable accelerators of this resource.
    pub(crate) fn count(&self, resource: &str) -> u32 {
        self.amount(resource).parse().unwrap_or(0)
    }

    /// The number of allocatable accelerators of all vendors.
    pub(crate) fn gpus(&self) -> u32 {
        ACCELERATORS
            .iter()
            .map(|resource| self.count(resource))
            .fold(0, u32::saturating_add)
    }
}

/// The value of a quantity in billionths; 0 if it is invalid.
pub(crate) fn nanos(amount: &str) -> i128 {
    Quantity::parse(amount).map_or(0, Quantity::nanos)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Machine;

    #[test]
    fn a_cordoned_machine_takes_no_tasks() {
        let machine = |unschedulable: bool| {
            let node = json!({
                "metadata": {"name": "m", "labels": {"a": "b"}},
                "spec": {"unschedulable": unschedulable},
                "status": {
                    "allocatable": {"cpu": "8", "memory": "16Gi", "nvidia.com/gpu": "2", "amd.com/gpu": "1"},
                    "conditions": [{"type": "Ready", "status": "True"}],
                },
            });
            Machine::from_resource(serde_json::from_value(node).unwrap())
        };
        assert!(machine(false).is_ready && !machine(true).is_ready);
        assert_eq!((machine(false).amount("cpu"), machine(false).gpus()), ("8", 3));
        assert_eq!(machine(false).labels["a"], "b");
    }
}
