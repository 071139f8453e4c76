//! The definition of a task and what its nodes request, for its record.

use std::collections::BTreeMap;

use task::TaskDefinition;
use task::record::NodeRequests;

use super::submission::Submission;
use crate::cache::MAX_DEFINITION;
use crate::kubernetes::{Container, PodSpec, Quantity};
use crate::labels;
use crate::placement::ACCELERATORS;

const GIB: f64 = (1_u64 << 30) as f64;

/// How much of a script is kept of a definition that is too long, in bytes.
const MAX_SCRIPT: usize = 8 * 1024;

/// The annotations of an archived task for its record. They are on the object that stands for it: its owner, or else its
/// only Job. `pod` is what each node runs.
pub(super) fn annotations(submission: &Submission, pod: impl FnOnce() -> Option<PodSpec>) -> Vec<(String, String)> {
    if !submission.is_archived {
        return Vec::new();
    }
    let requests = pod().and_then(|pod| serde_json::to_string(&requests(&pod)).ok());
    let definition = encode(&submission.definition);
    let annotations = [(labels::DEFINITION, definition), (labels::REQUESTS, requests)];
    let present = annotations.into_iter();
    present
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect()
}

/// What a pod requests. Kubernetes takes a limit for the request if there is no other.
fn requests(pod: &PodSpec) -> NodeRequests {
    let amount_in = |map: &Option<BTreeMap<String, Quantity>>, name: &str| map.as_ref()?.get(name).cloned();
    let of_container = |container: &Container, name: &str| {
        let resources = container.resources.as_ref()?;
        let amount = amount_in(&resources.requests, name).or_else(|| amount_in(&resources.limits, name))?;
        quantity::Quantity::parse(&amount.0)
    };
    let nanos = |name: &str| -> i128 {
        let amounts = pod
            .containers
            .iter()
            .filter_map(|container| of_container(container, name));
        amounts.map(quantity::Quantity::nanos).sum()
    };
    let value = |name: &str| nanos(name) as f64 / 1e9;
    let gpus: i128 = ACCELERATORS.iter().map(|name| nanos(name) / 1_000_000_000).sum();
    NodeRequests {
        cpus: value("cpu"),
        memory_gib: value("memory") / GIB,
        gpus: u32::try_from(gpus).unwrap_or(u32::MAX),
    }
}

/// The definition as JSON. If it is too long, the scripts are shortened; if that does not suffice, there is none.
fn encode(definition: &TaskDefinition) -> Option<String> {
    let fits = |json: &String| json.len() <= MAX_DEFINITION;
    let json = serde_json::to_string(definition).ok()?;
    if fits(&json) {
        return Some(json);
    }
    let shortened = TaskDefinition {
        setup: definition.setup.as_deref().map(shorten),
        run: shorten(&definition.run),
        ..definition.clone()
    };
    serde_json::to_string(&shortened).ok().filter(fits)
}

fn shorten(script: &str) -> String {
    if script.len() <= MAX_SCRIPT {
        return script.to_owned();
    }
    let left_out = script.len() - script.floor_char_boundary(MAX_SCRIPT);
    let kept = &script[..script.floor_char_boundary(MAX_SCRIPT)];
    format!("{kept}\n# {left_out} more bytes are not kept in the record.\n")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use task::TaskDefinition;
    use task::definition::MAX_NODES;

    use super::{encode, requests};

    fn definition(body: &Value) -> TaskDefinition {
        TaskDefinition::parse(body, MAX_NODES).unwrap()
    }

    #[test]
    fn a_long_script_is_shortened_and_the_value_of_a_secret_is_never_there() {
        let body = json!({"run": "\u{fc}".repeat(40_000), "secrets": {"TOKEN": "canary"}, "num_nodes": 2});
        let json = encode(&definition(&body)).unwrap();
        let kept: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(
            (kept["num_nodes"].as_u64(), kept["secrets"][0][0].as_str()),
            (Some(2), Some("TOKEN"))
        );
        assert!(
            kept["run"]
                .as_str()
                .unwrap()
                .ends_with("# 71808 more bytes are not kept in the record.\n")
        );
        assert!(!json.contains("canary"));
    }

    #[test]
    fn all_containers_of_a_pod_count_with_their_requests_or_else_their_limits() {
        let pod = json!({"containers": [
            {"name": "task", "resources": {
                "requests": {"cpu": "500m", "memory": "2Gi"},
                "limits": {"cpu": "4", "nvidia.com/gpu": "8"},
            }},
            {"name": "sidecar", "resources": {"limits": {"cpu": "1", "memory": "512Mi"}}},
            {"name": "other"},
        ]});
        let requests = requests(&serde_json::from_value(pod).unwrap());
        assert_eq!((requests.cpus, requests.memory_gib, requests.gpus), (1.5, 2.5, 8));
    }

    #[test]
    fn a_definition_of_many_variables_is_left_out() {
        let envs: serde_json::Map<String, Value> =
            (0..10).map(|i| (format!("V{i}"), "x".repeat(5000).into())).collect();
        assert_eq!(encode(&definition(&json!({"run": "true", "envs": envs}))), None);
    }
}
