//! Environment variables of a container, and `$(NAME)` references in them and in its command.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::api::core::v1::{EnvVarSource, ObjectFieldSelector, PodSpec};

use super::pod_config::PodConfig;
use super::pod_status::HOST_IP;
use super::references::{Reference, ReferencedObjects};
use crate::object::{Kind, Object};

/// Replaces `$(NAME)` with the variable's value, and `$$` with `$`. References to unknown variables stay as they are.
///
/// These are the rules of Kubernetes:
/// <https://kubernetes.io/docs/tasks/inject-data-application/define-interdependent-environment-variables/>.
pub(super) fn expand(text: &str, known: &[(String, String)]) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        result.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            result.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match known.iter().rev().find(|(key, _)| key == name) {
                Some((_, value)) => result.push_str(value),
                None => {
                    result.push_str("$(");
                    result.push_str(name);
                    result.push(')');
                }
            }
            rest = after;
        } else {
            result.push('$');
        }
    }
    result.push_str(rest);
    result
}

/// Returns the ConfigMaps and Secrets that variables come from, and whether each is required.
pub(super) fn list_references(pod_config: &PodConfig) -> Vec<Reference> {
    let mut all = Vec::new();
    for source in pod_config.container.env_from.iter().flatten() {
        if let Some(map) = &source.config_map_ref {
            all.push(Reference::new(Kind::ConfigMap, &map.name, map.optional));
        }
        if let Some(secret) = &source.secret_ref {
            all.push(Reference::new(Kind::Secret, &secret.name, secret.optional));
        }
    }
    for source in pod_config
        .container
        .env
        .iter()
        .flatten()
        .filter_map(|variable| variable.value_from.as_ref())
    {
        if let Some(key) = &source.config_map_key_ref {
            all.push(Reference::new(Kind::ConfigMap, &key.name, key.optional));
        }
        if let Some(key) = &source.secret_key_ref {
            all.push(Reference::new(Kind::Secret, &key.name, key.optional));
        }
    }
    all
}

/// Returns all variables of a container. The host takes the place of the image, so `PATH` and `HOME` are the server's.
pub(super) fn build_environment(
    pod_config: &PodConfig,
    pod: &Object,
    address: &str,
    objects: &ReferencedObjects,
) -> Result<Vec<(String, String)>, String> {
    let mut all: Vec<(String, String)> = Vec::new();
    let mut set = |name: String, value: String| {
        all.retain(|(known, _)| *known != name);
        all.push((name, value));
    };
    for name in ["PATH", "HOME"] {
        if let Ok(value) = std::env::var(name) {
            set(name.to_owned(), value);
        }
    }
    set("HOSTNAME".to_owned(), pod_config.hostname.clone());
    for source in pod_config.container.env_from.iter().flatten() {
        let prefix = source.prefix.clone().unwrap_or_default();
        let map = source
            .config_map_ref
            .as_ref()
            .map(|map| (Kind::ConfigMap, map.name.clone()));
        let secret = source
            .secret_ref
            .as_ref()
            .map(|secret| (Kind::Secret, secret.name.clone()));
        for key in [map, secret].into_iter().flatten() {
            for (name, value) in entries(objects.get(&key)) {
                set(format!("{prefix}{name}"), value);
            }
        }
    }
    for variable in pod_config.container.env.iter().flatten() {
        let value = match &variable.value_from {
            None => Some(expand(variable.value.as_deref().unwrap_or_default(), &all)),
            Some(source) => from_source(source, pod_config, pod, address, objects)?,
        };
        if let Some(value) = value {
            all.retain(|(known, _)| *known != variable.name);
            all.push((variable.name.clone(), value));
        }
    }
    Ok(all)
}

fn from_source(
    source: &EnvVarSource,
    pod_config: &PodConfig,
    pod: &Object,
    address: &str,
    objects: &ReferencedObjects,
) -> Result<Option<String>, String> {
    if let Some(field) = &source.field_ref {
        return Ok(Some(read_pod_field(field, pod, address)));
    }
    let keyed = |kind: Kind, name: &str, key: &str, optional: Option<bool>| {
        let found = entries(objects.get(&(kind, name.to_owned()))).remove(key);
        match found {
            Some(value) => Ok(Some(value)),
            None if optional == Some(true) => Ok(None),
            None => Err(format!(
                "couldn't find key {key} in {} {}/{name}",
                kind.name(),
                pod_config.namespace
            )),
        }
    };
    if let Some(key) = &source.config_map_key_ref {
        return keyed(Kind::ConfigMap, &key.name, &key.key, key.optional);
    }
    if let Some(key) = &source.secret_key_ref {
        return keyed(Kind::Secret, &key.name, &key.key, key.optional);
    }
    Err("unsupported source of an environment variable".to_owned())
}

/// Returns a field of a pod by its downward API path.
pub(super) fn read_pod_field(field: &ObjectFieldSelector, pod: &Object, address: &str) -> String {
    let keyed = |prefix: &str| field.field_path.strip_prefix(prefix)?.strip_suffix("']");
    if let Some(key) = keyed("metadata.labels['") {
        return pod.labels().remove(key).unwrap_or_default().to_owned();
    }
    if let Some(key) = keyed("metadata.annotations['") {
        return pod.annotations().remove(key).unwrap_or_default().to_owned();
    }
    // The containers are not needed, and take long to decode.
    let spec = || pod.spec_without::<PodSpec>("containers").unwrap_or_default();
    match field.field_path.as_str() {
        "metadata.name" => pod.name().to_owned(),
        "metadata.namespace" => pod.namespace().to_owned(),
        "metadata.uid" => pod.uid().to_owned(),
        "metadata.labels" => lines(pod.labels()),
        "metadata.annotations" => lines(pod.annotations()),
        "spec.nodeName" => spec().node_name.unwrap_or_default(),
        "spec.serviceAccountName" => spec().service_account_name.unwrap_or_default(),
        "status.podIP" | "status.podIPs" => address.to_owned(),
        "status.hostIP" | "status.hostIPs" => HOST_IP.to_owned(),
        _ => String::new(),
    }
}

/// Returns `key="value"` lines, sorted by key.
fn lines(pairs: BTreeMap<&str, &str>) -> String {
    let mut lines: Vec<String> = pairs.iter().map(|(key, value)| format!("{key}={value:?}")).collect();
    lines.sort_unstable();
    lines.join("\n")
}

/// Returns the entries of a ConfigMap or Secret as text.
fn entries(object: Option<&Object>) -> HashMap<String, String> {
    let Some(object) = object else { return HashMap::new() };
    super::atomic_writer::decode_entries(object)
        .into_iter()
        .map(|(key, bytes)| (key, String::from_utf8_lossy(&bytes).into_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::expand;

    #[test]
    fn references_are_replaced_as_the_kubelet_does_it() {
        let known = [("A".to_owned(), "1".to_owned()), ("B".to_owned(), "$(A)".to_owned())];
        for (text, expected) in [
            ("$(A)", "1"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$1"),
            ("x$(B)y", "x$(A)y"),
            ("$(C)", "$(C)"),
            ("$A $", "$A $"),
            ("$(A", "$(A"),
            ("ü$(A)é", "ü1é"),
        ] {
            assert_eq!(expand(text, &known), expected, "{text}");
        }
    }
}
