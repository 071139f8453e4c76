//! Finds the cluster nodes that have a model of accelerators, by their labels.

use std::collections::BTreeSet;

use super::machine::Machine;

/// The labels with the model of a node's accelerators, in SkyPilot's order: its own, GKE's for GPUs and for TPUs,
/// Karpenter's, that of NVIDIA's GPU feature discovery, `CoreWeave`'s, and Nebius'.
/// Source: `LABEL_FORMATTER_REGISTRY` in `sky/provision/kubernetes/utils.py` of skypilot-org/skypilot.
const MODEL_LABELS: [&str; 7] = [
    "skypilot.co/accelerator",
    "cloud.google.com/gke-accelerator",
    "cloud.google.com/gke-tpu-accelerator",
    "karpenter.k8s.aws/instance-gpu-name",
    "nvidia.com/gpu.product",
    "gpu.nvidia.com/class",
    "nebius.com/gpu-name",
];

/// Words of a label for a part of a GPU, or one that is shared. Only a request with this word may get it.
const PARTIAL: [&str; 2] = ["MIG", "SHARED"];

/// The label that these machines use for models: the first that one of them has.
pub(crate) fn model_label<'a>(machines: impl Iterator<Item = &'a Machine> + Clone) -> Option<&'static str> {
    let is_used = |label: &&str| machines.clone().any(|machine| machine.labels.contains_key(*label));
    MODEL_LABELS.into_iter().find(is_used)
}

/// All values of a label.
pub(crate) fn label_values<'a>(machines: impl Iterator<Item = &'a Machine>, label: &str) -> BTreeSet<&'a str> {
    let values = machines.filter_map(|machine| machine.labels.get(label));
    values.map(String::as_str).collect()
}

/// Whether nodes with this label value serve a request for `model`.
///
/// All words of the request must be in the value: `NVIDIA-A100-SXM4-80GB` serves `A100` and `A100-80GB`, while
/// `nvidia-tesla-a100`, which may have less memory, serves only `A100`.
pub(crate) fn serves(value: &str, model: &str) -> bool {
    if value.eq_ignore_ascii_case(model) {
        return true;
    }
    let model = model.to_ascii_uppercase();
    let has_words = |value: &str| {
        let words: Vec<&str> = words(value).collect();
        let has_all = self::words(&model).all(|word| words.contains(&word));
        let is_partial = |word: &&&str| PARTIAL.contains(word) && !self::words(&model).any(|asked| asked == **word);
        has_all && words.iter().find(is_partial).is_none()
    };
    let value = value.to_ascii_uppercase();
    has_words(&value) || has_words(&display_name(&value))
}

/// The model in a label value, as people write it: `NVIDIA-GeForce-RTX-4060-SHARED` is `RTX4060-SHARED`.
pub(crate) fn display_name(value: &str) -> String {
    value
        .to_ascii_uppercase()
        .replace("NVIDIA-", "")
        .replace("GEFORCE-", "")
        .replace("RTX-", "RTX")
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(['-', '_', ' ', '.']).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{display_name, serves};

    #[test]
    fn a_label_serves_requests_for_its_model_and_for_less() {
        for (value, model) in [
            ("NVIDIA-H100-80GB-HBM3", "H100"),
            ("NVIDIA-A100-SXM4-80GB", "A100-80GB"),
            ("NVIDIA-A100-SXM4-80GB", "A100"),
            ("nvidia-tesla-t4", "T4"),
            ("nvidia-h100-80gb", "h100"),
            ("NVIDIA-GeForce-RTX-4060-SHARED", "RTX4060-SHARED"),
            ("NVIDIA-GeForce-RTX-4090", "RTX4090"),
            ("Tesla-V100-SXM2-32GB", "V100-32GB"),
            ("l40s", "L40S"),
            ("tpu-v5-lite-podslice", "tpu-v5-lite-podslice"),
            ("NVIDIA-A100-SXM4-40GB-MIG-1g.5gb", "A100-MIG-1g.5gb"),
            ("A100_NVLINK_80GB", "A100-80GB"),
        ] {
            assert!(serves(value, model), "{value} {model}");
        }
        for (value, model) in [
            ("nvidia-tesla-a100", "A100-80GB"),
            ("NVIDIA-A100-SXM4-40GB", "A100-80GB"),
            ("NVIDIA-L40S", "L40"),
            ("NVIDIA-L4", "L40S"),
            ("NVIDIA-A10G", "A10"),
            ("NVIDIA-A10", "A100"),
            ("NVIDIA-A100-SXM4-40GB-MIG-1g.5gb", "A100"),
            ("NVIDIA-GeForce-RTX-4060-SHARED", "RTX4060"),
            ("NVIDIA-GH200-480GB", "H200"),
        ] {
            assert!(!serves(value, model), "{value} {model}");
        }
    }

    proptest! {
        #[test]
        fn every_value_serves_its_own_display_name(value in "[A-Za-z0-9]([-A-Za-z0-9_.]{0,20}[A-Za-z0-9])?") {
            prop_assert!(serves(&value, &value));
            prop_assert!(serves(&value, &display_name(&value)));
        }
    }
}
