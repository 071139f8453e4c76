//! Checks the fields of a pod that a task sets.

use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::{Map, Value, json};
use task::definition::{is_reserved_variable, key_error, mount_path_error};
use task::validation::LocItem;

use super::allow_list::{AllowList, Permission};
use super::merge::{is_task_container, normalized};
use crate::error::Error;
use crate::settings::PodSecurity;

/// The prefixes of the names of this server's own volumes.
const RESERVED_VOLUMES: [&str; 2] = ["k8s-cli-", "volume-"];

/// The longest time that a canceled or evicted task may take to end: its resources are held meanwhile.
pub(crate) const MAX_GRACE_SECONDS: i64 = 600;

/// The location of the field in a request.
const LOC: [&str; 4] = ["body", "config", "kubernetes", "pod_config"];

/// Fails with the first field that is unknown, that has the wrong type, or that the task may not set.
///
/// # Errors
/// [`Error::PodConfig`].
pub(crate) fn check(config: &Value, allowed: &AllowList, security: PodSecurity) -> Result<(), Error> {
    let mut loc: Vec<LocItem> = LOC.map(LocItem::from).to_vec();
    check_types(config, &mut loc)?;
    check_permission(config, "", allowed, &mut loc)?;
    check_names(config, &mut loc)?;
    check_values(&config["spec"], allowed, &mut loc)?;
    match security {
        PodSecurity::Restricted => check_restricted(&config["spec"], &mut loc),
        PodSecurity::Baseline => Ok(()),
    }
}

/// Checks values that would affect others.
fn check_values(spec: &Value, allowed: &AllowList, loc: &mut Vec<LocItem>) -> Result<(), Error> {
    let grace = &spec["terminationGracePeriodSeconds"];
    let is_limited = |path: &str| !allowed.allows_all_of(path);
    let is_long = grace
        .as_i64()
        .is_some_and(|seconds| !(0..=MAX_GRACE_SECONDS).contains(&seconds));
    if is_long && is_limited("spec.terminationGracePeriodSeconds") {
        loc.extend(["spec", "terminationGracePeriodSeconds"].map(LocItem::from));
        return Err(error(
            loc,
            format!(
                "must be from 0 to {MAX_GRACE_SECONDS}; the operator of the server can allow more with \
                 `--allow-pod-config spec.terminationGracePeriodSeconds`"
            ),
        ));
    }
    if let Some(class) = spec["priorityClassName"]
        .as_str()
        .filter(|class| class.starts_with("system-"))
    {
        loc.extend(["spec", "priorityClassName"].map(LocItem::from));
        return Err(error(loc, format!("`{class}` is reserved for Kubernetes itself")));
    }
    let account = spec["serviceAccountName"].as_str();
    if let Some(reason) = account.and_then(|account| allowed.reject_service_account(account)) {
        loc.extend(["spec", "serviceAccountName"].map(LocItem::from));
        return Err(error(loc, reason));
    }
    for (index, toleration) in items(&spec["tolerations"]) {
        let key = toleration["key"].as_str().unwrap_or_default();
        let is_system = ["node-role.kubernetes.io/", "node.kubernetes.io/"]
            .iter()
            .any(|prefix| key.starts_with(prefix));
        if (key.is_empty() || is_system) && is_limited("spec.tolerations") {
            loc.extend(place(&["spec", "tolerations"], index, "key"));
            return Err(error(
                loc,
                "a task can tolerate only taints with a key that is not one of Kubernetes itself; the operator of the \
                 server can allow others with `--allow-pod-config spec.tolerations`",
            ));
        }
    }
    Ok(())
}

/// With the `restricted` Pod Security Standard, the server sets the users and groups of all pods.
fn check_restricted(spec: &Value, loc: &mut Vec<LocItem>) -> Result<(), Error> {
    const REASON: &str = "the server runs all pods with the `restricted` Pod Security Standard, and sets this itself";
    if !spec["securityContext"].is_null() {
        loc.extend(["spec", "securityContext"].map(LocItem::from));
        return Err(error(loc, REASON));
    }
    match items(&spec["containers"]).find(|(_, container)| !container["securityContext"].is_null()) {
        Some((index, _)) => {
            loc.extend(place(&["spec", "containers"], index, "securityContext"));
            Err(error(loc, REASON))
        }
        None => Ok(()),
    }
}

fn error(loc: &[LocItem], reason: impl Into<String>) -> Error {
    Error::PodConfig {
        loc: loc.to_vec(),
        reason: reason.into(),
    }
}

/// Runs `inner` with an item appended to the location.
fn within<T>(loc: &mut Vec<LocItem>, item: LocItem, inner: impl FnOnce(&mut Vec<LocItem>) -> T) -> T {
    loc.push(item);
    let result = inner(loc);
    loc.pop();
    result
}

/// Checks that every field is allowed. `path` has no indices.
fn check_permission(value: &Value, path: &str, allowed: &AllowList, loc: &mut Vec<LocItem>) -> Result<(), Error> {
    if !path.is_empty() {
        match allowed.permission(path) {
            Permission::Allowed => return Ok(()),
            Permission::Denied(reason) => return Err(error(loc, reason)),
            Permission::Partial => {}
        }
    }
    match value {
        Value::Object(fields) => check_permission_of_fields(fields, path, allowed, loc),
        Value::Array(items) => items.iter().enumerate().try_for_each(|(index, value)| {
            // The permission of a list is that of its items.
            within(loc, LocItem::Index(index), |loc| match value {
                Value::Object(fields) => check_permission_of_fields(fields, path, allowed, loc),
                _ => Err(error(loc, "must be a map")),
            })
        }),
        Value::Null => Ok(()),
        _ => Err(error(loc, "must be a map or a list")),
    }
}

fn check_permission_of_fields(
    fields: &Map<String, Value>,
    path: &str,
    allowed: &AllowList,
    loc: &mut Vec<LocItem>,
) -> Result<(), Error> {
    fields.iter().try_for_each(|(key, value)| {
        let path = if path.is_empty() {
            key.clone()
        } else {
            format!("{path}.{key}")
        };
        within(loc, LocItem::from(key.as_str()), |loc| {
            check_permission(value, &path, allowed, loc)
        })
    })
}

/// Checks the names that the server uses itself.
fn check_names(config: &Value, loc: &mut Vec<LocItem>) -> Result<(), Error> {
    for kind in ["labels", "annotations"] {
        for (key, _) in config["metadata"][kind].as_object().into_iter().flatten() {
            if let Some(reason) = key_error(key) {
                loc.extend(["metadata", kind, key].map(LocItem::from));
                return Err(error(loc, reason));
            }
        }
    }
    let spec = &config["spec"];
    for (index, volume) in items(&spec["volumes"]) {
        let name = volume["name"].as_str().unwrap_or_default();
        if RESERVED_VOLUMES.iter().any(|prefix| name.starts_with(prefix)) {
            loc.extend(place(&["spec", "volumes"], index, "name"));
            return Err(error(loc, format!("the name `{name}` is reserved; choose another one")));
        }
    }
    for (index, container) in items(&spec["containers"]) {
        if !is_task_container(container) {
            loc.extend(place(&["spec", "containers"], index, "name"));
            return Err(error(loc, "a task has one container; leave out its name"));
        }
        for (variable, entry) in items(&container["env"]) {
            let name = entry["name"].as_str().unwrap_or_default();
            if is_reserved_variable(name) {
                loc.extend(place(&["spec", "containers"], index, "env"));
                loc.extend([LocItem::Index(variable), "name".into()]);
                return Err(error(loc, format!("the server sets `{name}` for each node")));
            }
        }
        for (mount, entry) in items(&container["volumeMounts"]) {
            let path = entry["mountPath"].as_str().unwrap_or_default();
            if let Some(reason) = mount_path_error(path) {
                loc.extend(place(&["spec", "containers"], index, "volumeMounts"));
                loc.extend([LocItem::Index(mount), "mountPath".into()]);
                return Err(error(loc, reason));
            }
        }
    }
    Ok(())
}

fn items(list: &Value) -> impl Iterator<Item = (usize, &Value)> {
    list.as_array().into_iter().flatten().enumerate()
}

/// The location of a key of an item of a list.
fn place(path: &[&str], index: usize, key: &str) -> Vec<LocItem> {
    let path = path.iter().map(|step| LocItem::from(*step));
    path.chain([LocItem::Index(index), key.into()]).collect()
}

/// Checks the types of all fields, and that Kubernetes knows them: it drops unknown ones silently.
fn check_types(config: &Value, loc: &mut Vec<LocItem>) -> Result<(), Error> {
    let mut template = normalized(config);
    let wanted = template.clone();
    // The types require a list of containers.
    let spec = template
        .as_object_mut()
        .map(|fields| fields.entry("spec").or_insert_with(|| json!({})));
    if let Some(Value::Object(spec)) = spec {
        spec.entry("containers").or_insert_with(|| json!([]));
    }
    let typed: PodTemplateSpec = serde_json::from_value(template).map_err(|source| error(loc, source.to_string()))?;
    let known = serde_json::to_value(typed).map_err(|source| Error::Encoding { source })?;
    check_known(&wanted, &known, loc)
}

fn check_known(wanted: &Value, known: &Value, loc: &mut Vec<LocItem>) -> Result<(), Error> {
    match (wanted, known) {
        (Value::Object(wanted), known) => {
            let none = Map::new();
            let known = known.as_object().unwrap_or(&none);
            wanted
                .iter()
                .filter(|(_, value)| !is_empty(value))
                .try_for_each(|(key, value)| {
                    within(loc, LocItem::from(key.as_str()), |loc| match known.get(key) {
                        Some(known) => check_known(value, known, loc),
                        None => Err(error(loc, format!("Kubernetes does not know the field `{key}` here"))),
                    })
                })
        }
        (Value::Array(wanted), Value::Array(known)) => {
            let mut both = wanted.iter().zip(known).enumerate();
            both.try_for_each(|(index, (wanted, known))| {
                within(loc, LocItem::Index(index), |loc| check_known(wanted, known, loc))
            })
        }
        _ => Ok(()),
    }
}

/// Whether the types may leave out a value when they are encoded.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::{AllowList, PodSecurity, check};
    use crate::error::Error;

    fn checked(config: &Value) -> Result<(), String> {
        check(config, &AllowList::default(), PodSecurity::Baseline).map_err(|error| match error {
            Error::PodConfig { loc, reason } => {
                let loc: Vec<String> = loc[4..].iter().map(ToString::to_string).collect();
                format!("{}: {reason}", loc.join("."))
            }
            other => panic!("{other}"),
        })
    }

    #[test]
    fn the_fields_of_real_files_are_allowed() {
        let config = json!({
            "metadata": {"labels": {"team": "vision"}, "annotations": {"note": "x"}},
            "spec": {
                "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
                "nodeSelector": {"pool": "a"},
                "containers": [{
                    "env": [{"name": "NCCL_DEBUG", "value": "WARN"}],
                    "volumeMounts": [{"mountPath": "/dev/shm", "name": "shm"}],
                    "resources": {"limits": {"rdma/ib": 1}},
                }],
                "volumes": [{"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "64Gi"}}],
                "securityContext": null,
            },
        });
        assert_eq!(checked(&config), Ok(()));
        assert_eq!(checked(&json!({})), Ok(()));
        assert_eq!(
            checked(&json!({"spec": {"containers": [{"name": "ray-node", "env": []}]}})),
            Ok(())
        );
    }

    #[test]
    fn the_first_mistake_is_named_with_its_place() {
        for (config, expected) in [
            (
                json!({"spec": {"hostNetwork": true}}),
                "spec.hostNetwork: the server does not let tasks set",
            ),
            (
                json!({"spec": {"volumes": [{"name": "h", "hostPath": {"path": "/"}}]}}),
                "spec.volumes.0.hostPath: the server does not let tasks set `spec.volumes.hostPath`",
            ),
            (
                json!({"spec": {"containers": [{"command": ["x"]}]}}),
                "spec.containers.0.command: tasks cannot set",
            ),
            (
                json!({"spec": {"containers": [{"env": [{"name": "A", "valueFrom": {"secretKeyRef": {}}}]}]}}),
                "spec.containers.0.env.0.valueFrom.secretKeyRef: the server does not let",
            ),
            (
                json!({"spec": {"containers": [{"name": "sidecar"}]}}),
                "spec.containers.0.name: a task has one",
            ),
            (
                json!({"spec": {"containers": [{"env": [{"name": "NODE_RANK", "value": "1"}]}]}}),
                "spec.containers.0.env.0.name: the server sets `NODE_RANK`",
            ),
            (
                json!({"spec": {"containers": [{"volumeMounts": [{"mountPath": "/proc", "name": "a"}]}]}}),
                "spec.containers.0.volumeMounts.0.mountPath: the mount path must not be in a reserved",
            ),
            (
                json!({"spec": {"volumes": [{"name": "volume-0", "emptyDir": {}}]}}),
                "spec.volumes.0.name: the name `volume-0` is reserved",
            ),
            (
                json!({"metadata": {"labels": {"task-id": "x"}}}),
                "metadata.labels.task-id: the key `task-id` is",
            ),
            (
                json!({"spec": {"tolerations": [{"kee": "x"}]}}),
                "spec.tolerations.0.kee: Kubernetes does not know",
            ),
            (json!({"spec": {"tolerations": 3}}), ": invalid type: integer"),
            (json!({"spec": {"volumes": 3}}), ": invalid type: integer"),
            (json!({"spec": []}), ": invalid type"),
            (json!({"metadata": {"name": "x"}}), "metadata.name: tasks cannot set"),
            (
                json!({"spec": {"nodeSelectr": {"a": "b"}}}),
                "spec.nodeSelectr: Kubernetes does not know",
            ),
            (
                json!({"spec": {"terminationGracePeriodSeconds": 601}}),
                "spec.terminationGracePeriodSeconds: must be",
            ),
            (
                json!({"spec": {"tolerations": [{"operator": "Exists"}]}}),
                "spec.tolerations.0.key: a task can",
            ),
            (
                json!({"spec": {"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": []}}}}),
                "spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution: the server does not let",
            ),
        ] {
            let message = checked(&config).unwrap_err();
            assert!(message.starts_with(expected), "{message}");
        }
    }

    #[test]
    fn the_restricted_standard_cannot_be_left() {
        let any: AllowList = ["*".parse().unwrap()].into_iter().collect();
        for config in [
            json!({"spec": {"securityContext": {"runAsUser": 0}}}),
            json!({"spec": {"containers": [{"securityContext": {"runAsNonRoot": false}}]}}),
        ] {
            check(&config, &any, PodSecurity::Restricted).unwrap_err();
            check(&config, &any, PodSecurity::Baseline).unwrap();
        }
        let system = json!({"spec": {"priorityClassName": "system-node-critical"}});
        check(&system, &any, PodSecurity::Baseline).unwrap_err();
    }

    fn json_value() -> impl Strategy<Value = Value> {
        let keys = prop::sample::select(vec![
            "metadata",
            "labels",
            "spec",
            "containers",
            "env",
            "name",
            "value",
            "volumes",
            "emptyDir",
            "hostPath",
            "tolerations",
            "affinity",
            "nodeSelector",
            "resources",
            "limits",
            "command",
            "task",
            "securityContext",
        ]);
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i32>().prop_map(Value::from),
            "[a-z-]{0,5}".prop_map(Value::from)
        ];
        leaf.prop_recursive(5, 30, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::vec((keys.clone(), inner), 0..4).prop_map(|fields| Value::Object(
                    fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
                )),
            ]
        })
    }

    proptest! {
        /// Whatever passes the check can be merged into a pod, and changes nothing that the server relies on.
        #[test]
        fn what_passes_can_be_merged(config in json_value()) {
            if check(&config, &AllowList::default(), PodSecurity::Baseline).is_ok() {
                crate::pod_config::merge::tests::assert_merges(&config);
            }
        }
    }
}
