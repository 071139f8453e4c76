//! Merges the fields that a task sets into its pod, as SkyPilot does.
//!
//! Source: `combine_pod_config_fields` in `sky/provision/kubernetes/utils.py` of skypilot-org/skypilot.

use serde_json::Value;

use crate::kubernetes::{NodeSelector, NodeSelectorTerm, PodTemplateSpec};
use crate::labels;

/// SkyPilot's name of the container.
const SKYPILOT_CONTAINER: &str = "ray-node";

/// Merges a checked `pod_config` into the template of a pod.
pub(crate) fn apply(template: &mut PodTemplateSpec, config: &Value) {
    let own = take_terms(template);
    let mut merged = serde_json::to_value(&*template).expect("a pod template is plain data");
    merge(&mut merged, normalized(config), "");
    *template = serde_json::from_value(merged).expect("`check` has checked the types");
    require_both(template, own);
}

/// Whether an item of `spec.containers` means the container of the task.
pub(super) fn is_task_container(container: &Value) -> bool {
    match &container["name"] {
        Value::Null => true,
        name => name == labels::CONTAINER || name == SKYPILOT_CONTAINER,
    }
}

/// The same configuration with the name of our container, and with text for quantities, for which Kubernetes also
/// takes numbers.
pub(super) fn normalized(config: &Value) -> Value {
    let mut config = config.clone();
    let containers = config.pointer_mut("/spec/containers").and_then(Value::as_array_mut);
    for container in containers.into_iter().flatten() {
        if is_task_container(container)
            && let Some(fields) = container.as_object_mut()
        {
            fields.insert("name".to_owned(), labels::CONTAINER.into());
        }
        for kind in ["requests", "limits"] {
            let amounts = container.pointer_mut(&format!("/resources/{kind}"));
            for (_, amount) in amounts.and_then(Value::as_object_mut).into_iter().flatten() {
                make_text(amount);
            }
        }
    }
    let volumes = config.pointer_mut("/spec/volumes").and_then(Value::as_array_mut);
    for volume in volumes.into_iter().flatten() {
        if let Some(limit) = volume.pointer_mut("/emptyDir/sizeLimit") {
            make_text(limit);
        }
    }
    config
}

fn make_text(value: &mut Value) {
    if let Value::Number(number) = value {
        *value = Value::String(number.to_string());
    }
}

/// Merges maps, and lists whose items have a key; other lists are extended. `name` is the key of the value.
fn merge(base: &mut Value, overlay: Value, name: &str) {
    match (base, overlay) {
        (_, Value::Null) => {}
        (Value::Object(base), Value::Object(overlay)) => {
            for (key, value) in overlay {
                match base.get_mut(&key) {
                    Some(known) if !known.is_null() => merge(known, value, &key),
                    _ => drop(base.insert(key, value)),
                }
            }
        }
        (Value::Array(base), Value::Array(overlay)) => merge_lists(base, overlay, name),
        (base, overlay) => *base = overlay,
    }
}

fn merge_lists(base: &mut Vec<Value>, overlay: Vec<Value>, name: &str) {
    let key = match name {
        "containers" | "initContainers" | "volumes" | "env" => "name",
        "volumeMounts" => "mountPath",
        "ports" => "containerPort",
        "hostAliases" => "ip",
        "topologySpreadConstraints" => "topologyKey",
        "args" | "command" | "imagePullSecrets" => {
            *base = overlay;
            return;
        }
        _ => {
            base.extend(overlay);
            return;
        }
    };
    for item in overlay {
        let is_same = |known: &&mut Value| !item[key].is_null() && known[key] == item[key];
        match base.iter_mut().find(is_same) {
            // A variable or a volume is replaced as a whole: it has one value, and one source.
            Some(known) if matches!(name, "env" | "volumes" | "volumeMounts") => *known = item,
            Some(known) => merge(known, item, ""),
            None => base.push(item),
        }
    }
}

/// The terms of the required node affinity, of which a cluster node must meet one.
fn take_terms(template: &mut PodTemplateSpec) -> Vec<NodeSelectorTerm> {
    let affinity = template.spec.as_mut().and_then(|pod| pod.affinity.as_mut());
    let nodes = affinity.and_then(|affinity| affinity.node_affinity.as_mut());
    let required = nodes.and_then(|nodes| nodes.required_during_scheduling_ignored_during_execution.take());
    required
        .map(|required| required.node_selector_terms)
        .unwrap_or_default()
}

/// Requires one of `terms` and one of `own`. Lists are appended otherwise, which would make the task's terms
/// alternatives to ours.
fn require_both(template: &mut PodTemplateSpec, own: Vec<NodeSelectorTerm>) {
    let terms = take_terms(template);
    let node_selector_terms: Vec<NodeSelectorTerm> = match (terms.is_empty(), own.is_empty()) {
        (true, true) => return,
        (true, false) => own,
        (false, true) => terms,
        // Ours have expressions only.
        (false, false) => terms
            .iter()
            .flat_map(|term| own.iter().map(|own| both(term, own)))
            .collect(),
    };
    let pod = template.spec.get_or_insert_default();
    let affinity = pod
        .affinity
        .get_or_insert_default()
        .node_affinity
        .get_or_insert_default();
    affinity.required_during_scheduling_ignored_during_execution = Some(NodeSelector { node_selector_terms });
}

/// A term that is met by the cluster nodes that meet both.
fn both(term: &NodeSelectorTerm, own: &NodeSelectorTerm) -> NodeSelectorTerm {
    let expressions = term.match_expressions.iter().chain(&own.match_expressions).flatten();
    NodeSelectorTerm {
        match_expressions: Some(expressions.cloned().collect()),
        ..term.clone()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::{Value, json};

    use super::{PodTemplateSpec, apply};

    fn template() -> PodTemplateSpec {
        let template = json!({
            "metadata": {"labels": {"ours": "1"}},
            "spec": {
                "restartPolicy": "Never",
                "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                    {"matchExpressions": [{"key": "model", "operator": "In", "values": ["A100"]}]},
                ]}}},
                "containers": [{
                    "name": "task",
                    "command": ["bash"],
                    "env": [{"name": "A", "value": "1"}, {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "x"}}}],
                    "volumeMounts": [{"mountPath": "/dev/shm", "name": "shm"}, {"mountPath": "/data", "name": "volume-0"}],
                    "resources": {"limits": {"cpu": "1"}},
                }],
                "volumes": [{"name": "shm", "emptyDir": {"medium": "Memory"}}],
            },
        });
        serde_json::from_value(template).unwrap()
    }

    fn applied(config: &Value) -> Value {
        let mut template = template();
        apply(&mut template, config);
        serde_json::to_value(template).unwrap()
    }

    /// Fails if the merge changes something that the server relies on.
    pub(crate) fn assert_merges(config: &Value) {
        let (before, after) = (serde_json::to_value(template()).unwrap(), applied(config));
        for path in [
            "/spec/restartPolicy",
            "/spec/containers/0/name",
            "/spec/containers/0/command",
        ] {
            assert_eq!(before.pointer(path), after.pointer(path), "{path}");
        }
        assert_eq!(after["metadata"]["labels"]["ours"], "1");
        assert_eq!(after["spec"]["containers"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn lists_merge_by_the_keys_of_skypilot() {
        let config = json!({
            "metadata": {"labels": {"team": "vision"}},
            "spec": {
                "tolerations": [{"key": "gpu"}],
                "containers": [{
                    "env": [{"name": "B", "value": "2"}, {"name": "C", "value": "3"}],
                    "volumeMounts": [{"mountPath": "/dev/shm", "name": "mine"}],
                    "resources": {"limits": {"rdma/ib": 1}},
                }],
                "volumes": [{"name": "mine", "emptyDir": {"medium": "Memory", "sizeLimit": 1024}}],
            },
        });
        let merged = applied(&config);
        assert_eq!(merged["metadata"]["labels"], json!({"ours": "1", "team": "vision"}));
        let container = &merged["spec"]["containers"][0];
        let expected = json!([{"name": "A", "value": "1"}, {"name": "B", "value": "2"}, {"name": "C", "value": "3"}]);
        assert_eq!(container["env"], expected);
        assert_eq!(container["volumeMounts"][0]["name"], "mine");
        assert_eq!(container["volumeMounts"].as_array().unwrap().len(), 2);
        assert_eq!(container["resources"]["limits"], json!({"cpu": "1", "rdma/ib": "1"}));
        assert_eq!(merged["spec"]["volumes"][1]["emptyDir"]["sizeLimit"], "1024");
        assert_eq!(merged["spec"]["tolerations"], json!([{"key": "gpu"}]));
    }

    #[test]
    fn a_node_must_meet_our_affinity_and_the_tasks_own() {
        let zone = |zone: &str| json!({"matchExpressions": [{"key": "zone", "operator": "In", "values": [zone]}]});
        let config = json!({"spec": {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [zone("a"), zone("b")],
        }}}}});
        let merged = applied(&config);
        let path = "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms";
        let terms = merged.pointer(path).unwrap().as_array().unwrap();
        assert_eq!(terms.len(), 2);
        for term in terms {
            assert_eq!(term["matchExpressions"][1]["key"], "model", "{term}");
        }
        assert_eq!(
            applied(&json!({})).pointer(path).unwrap()[0]["matchExpressions"][0]["key"],
            "model"
        );
    }
}
