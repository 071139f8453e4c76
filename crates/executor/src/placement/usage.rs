//! Who uses the accelerators of the cluster, by model.

use std::collections::{BTreeMap, HashMap};

use task::wire::{GpuHolder, GpuModel};

use super::accelerator_model::{display_name, model_label};
use super::machine::{ACCELERATORS, Machine};
use crate::kubernetes::{Pod, ResourceExt};
use crate::labels;

/// The accelerators that a pod holds on a cluster node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PodUsage {
    /// The cluster node.
    pub machine: String,
    /// The number of accelerators, by resource.
    pub counts: BTreeMap<String, u32>,
    /// The user and the ID of the task, if the pod belongs to one.
    pub task: Option<(String, String)>,
}

impl PodUsage {
    /// Reads the fields of a pod, unless it holds no accelerators.
    pub(crate) fn from_resource(pod: &Pod, namespace: &str) -> Option<Self> {
        let (spec, status) = (pod.spec.as_ref()?, pod.status.as_ref()?);
        if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
            return None;
        }
        let mut counts = BTreeMap::new();
        for container in &spec.containers {
            let limits = container
                .resources
                .as_ref()
                .and_then(|resources| resources.limits.as_ref());
            for (name, amount) in limits.into_iter().flatten() {
                if ACCELERATORS.contains(&name.as_str()) {
                    let count: u32 = amount.0.parse().unwrap_or(0);
                    *counts.entry(name.clone()).or_insert(0) += count;
                }
            }
        }
        let label = |name: &str| pod.labels().get(name).cloned();
        let is_ours = pod.namespace().as_deref() == Some(namespace);
        let task = label(labels::USERNAME).zip(label(labels::TASK_ID)).filter(|_| is_ours);
        (!counts.is_empty()).then_some(Self {
            machine: spec.node_name.clone()?,
            counts,
            task,
        })
    }
}

/// Sums up the accelerators of all ready cluster nodes by model. Accelerators without a label have the name of their
/// resource.
pub(crate) fn summarize(machines: &[Machine], pods: &[PodUsage]) -> Vec<GpuModel> {
    let mut by_machine: HashMap<&str, Vec<&PodUsage>> = HashMap::new();
    for pod in pods {
        by_machine.entry(&pod.machine).or_default().push(pod);
    }
    let mut models: BTreeMap<String, GpuModel> = BTreeMap::new();
    for machine in machines.iter().filter(|machine| machine.is_ready) {
        for resource in ACCELERATORS {
            let total = machine.count(resource);
            if total == 0 {
                continue;
            }
            let label = model_label(std::iter::once(machine));
            let value = label.and_then(|label| machine.labels.get(label));
            let name = value.map_or_else(|| resource.to_owned(), |value| display_name(value));
            let holders = || by_machine.get(machine.name.as_str()).into_iter().flatten();
            let used = holders().filter_map(|pod| pod.counts.get(resource)).sum::<u32>();
            let free = total.saturating_sub(used);
            let model = models.entry(name.clone()).or_insert_with(|| GpuModel {
                model: name,
                total: 0,
                free: 0,
                largest_free: 0,
                holders: Vec::new(),
            });
            model.total += total;
            model.free += free;
            model.largest_free = model.largest_free.max(free);
            model.holders.extend(holders().filter_map(|pod| holder(pod, resource)));
        }
    }
    models.into_values().map(with_merged_holders).collect()
}

fn holder(pod: &PodUsage, resource: &str) -> Option<GpuHolder> {
    let count = pod.counts.get(resource).copied().filter(|count| *count > 0)?;
    let (username, task_id) = pod.task.clone().unzip();
    Some(GpuHolder {
        username,
        task_id,
        count,
    })
}

/// One holder for each task, the largest first.
fn with_merged_holders(mut model: GpuModel) -> GpuModel {
    let mut counts: BTreeMap<(Option<String>, Option<String>), u32> = BTreeMap::new();
    for GpuHolder {
        username,
        task_id,
        count,
    } in std::mem::take(&mut model.holders)
    {
        *counts.entry((username, task_id)).or_insert(0) += count;
    }
    let holders = counts.into_iter().map(|((username, task_id), count)| GpuHolder {
        username,
        task_id,
        count,
    });
    model.holders = holders.collect();
    model.holders.sort_by_key(|holder| std::cmp::Reverse(holder.count));
    model
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::{Machine, PodUsage, summarize};

    fn machine(name: &str, product: Option<&str>, gpus: u32) -> Machine {
        let label = product.map(|product| ("nvidia.com/gpu.product".to_owned(), product.to_owned()));
        Machine {
            name: name.to_owned(),
            is_ready: true,
            labels: label.into_iter().collect(),
            allocatable: BTreeMap::from([("nvidia.com/gpu".to_owned(), gpus.to_string())]),
        }
    }

    fn pod(machine: &str, count: u32, phase: &str) -> Option<PodUsage> {
        let pod = json!({
            "metadata": {"namespace": "ours", "labels": {"username": "alice", "task-id": "abc"}},
            "spec": {"nodeName": machine, "containers": [{"name": "task", "resources": {"limits": {
                "nvidia.com/gpu": count.to_string(), "cpu": "4",
            }}}]},
            "status": {"phase": phase},
        });
        PodUsage::from_resource(&serde_json::from_value(pod).unwrap(), "ours")
    }

    #[test]
    fn accelerators_are_counted_by_model_with_who_holds_them() {
        let machines = [
            machine("a", Some("NVIDIA-A100-SXM4-80GB"), 8),
            machine("b", Some("NVIDIA-A100-SXM4-80GB"), 8),
            machine("c", None, 4),
            Machine {
                is_ready: false,
                ..machine("d", Some("NVIDIA-L4"), 2)
            },
        ];
        let pods = [pod("a", 5, "Running"), pod("b", 2, "Pending"), pod("b", 8, "Succeeded")];
        let pods: Vec<PodUsage> = pods.into_iter().flatten().collect();
        insta::assert_json_snapshot!(summarize(&machines, &pods), @r#"
        [
          {
            "model": "A100-SXM4-80GB",
            "total": 16,
            "free": 9,
            "largest_free": 6,
            "holders": [
              {
                "username": "alice",
                "task_id": "abc",
                "count": 7
              }
            ]
          },
          {
            "model": "nvidia.com/gpu",
            "total": 4,
            "free": 4,
            "largest_free": 4,
            "holders": []
          }
        ]
        "#);
    }
}
