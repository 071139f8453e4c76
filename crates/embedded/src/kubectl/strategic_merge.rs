//! Strategic merge patches: JSON merge patches that merge some lists by key.
//!
//! <https://github.com/kubernetes/community/blob/master/contributors/devel/sig-api-machinery/strategic-merge-patch.md>

use serde_json::{Map, Value};

/// How a patch changes a list.
enum ListKind {
    /// Entries with the same value of this field are merged.
    Keyed(&'static str),
    /// Values are added unless they are in the list already.
    Set,
    /// The list is replaced.
    Atomic,
}

/// Patch strategies from the `patchStrategy` and `patchMergeKey` tags of the API types. A field's name is enough to
/// look one up; only `ports` means two things (see [`merge_field`]).
fn list_kind(field: &str) -> ListKind {
    match field {
        "containers"
        | "initContainers"
        | "ephemeralContainers"
        | "env"
        | "volumes"
        | "imagePullSecrets"
        | "resourceClaims"
        | "secrets" => ListKind::Keyed("name"),
        "volumeMounts" => ListKind::Keyed("mountPath"),
        "volumeDevices" => ListKind::Keyed("devicePath"),
        "ownerReferences" => ListKind::Keyed("uid"),
        "conditions" | "addresses" => ListKind::Keyed("type"),
        "hostAliases" | "podIPs" | "hostIPs" => ListKind::Keyed("ip"),
        "ports" => ListKind::Keyed("containerPort"),
        "topologySpreadConstraints" => ListKind::Keyed("topologyKey"),
        "taints" => ListKind::Keyed("key"),
        "finalizers" | "podCIDRs" => ListKind::Set,
        _ => ListKind::Atomic,
    }
}

/// Applies a strategic merge patch. Fails on an unknown `$patch` directive, and on a list entry without its merge key.
pub(crate) fn strategic_merge(target: &mut Value, patch: &Value) -> Result<(), String> {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return Ok(());
    };
    match patch.get("$patch").and_then(Value::as_str) {
        None | Some("merge") => {}
        Some("replace") => {
            let mut fresh = patch.clone();
            fresh.shift_remove("$patch");
            *target = Value::Object(fresh);
            return Ok(());
        }
        Some("delete") => {
            *target = Value::Object(Map::new());
            return Ok(());
        }
        Some(other) => return Err(format!("unknown $patch value: {other}")),
    }
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(map) = target else { return Ok(()) };
    if let Some(Value::Array(kept)) = patch.get("$retainKeys") {
        map.retain(|key, _| kept.iter().any(|one| one == key.as_str()));
    }
    for (key, change) in patch {
        if let Some(field) = key.strip_prefix("$deleteFromPrimitiveList/") {
            remove_from(map, field, change);
        } else if !key.starts_with('$') {
            merge_field(map, key, change)?;
        }
    }
    Ok(())
}

fn merge_field(map: &mut Map<String, Value>, key: &str, change: &Value) -> Result<(), String> {
    match (change, list_kind(key)) {
        (Value::Null, _) => {
            map.shift_remove(key);
        }
        (Value::Object(_), _) => {
            let slot = map.entry(key.to_owned()).or_insert(Value::Null);
            strategic_merge(slot, change)?;
        }
        (Value::Array(changes), ListKind::Keyed(by)) => {
            let slot = map.entry(key.to_owned()).or_insert_with(|| Value::Array(Vec::new()));
            if !slot.is_array() {
                *slot = Value::Array(Vec::new());
            }
            if let Value::Array(entries) = slot {
                // The merge key of a Service's ports is `port`, that of a container's `containerPort`.
                let by = if by == "containerPort" && changes.iter().any(|one| one.get("port").is_some()) {
                    "port"
                } else {
                    by
                };
                merge_list(entries, changes, by)?;
            }
        }
        (Value::Array(changes), ListKind::Set) => {
            let slot = map.entry(key.to_owned()).or_insert_with(|| Value::Array(Vec::new()));
            if let Value::Array(entries) = slot {
                for change in changes {
                    if !entries.contains(change) {
                        entries.push(change.clone());
                    }
                }
            }
        }
        (plain, _) => {
            map.insert(key.to_owned(), plain.clone());
        }
    }
    Ok(())
}

fn merge_list(entries: &mut Vec<Value>, changes: &[Value], by: &str) -> Result<(), String> {
    if changes.iter().any(|change| change["$patch"] == "replace") {
        *entries = changes
            .iter()
            .filter(|change| change["$patch"] != "replace")
            .cloned()
            .collect();
        return Ok(());
    }
    for change in changes {
        let Some(key) = change.get(by) else {
            return Err(format!("map: {change} does not contain declared merge key: {by}"));
        };
        let found = entries.iter().position(|entry| entry.get(by) == Some(key));
        match (found, change["$patch"].as_str()) {
            (Some(index), Some("delete")) => {
                entries.remove(index);
            }
            (None, Some("delete")) => {}
            (Some(index), _) => strategic_merge(&mut entries[index], change)?,
            (None, _) => {
                let mut fresh = Value::Object(Map::new());
                strategic_merge(&mut fresh, change)?;
                entries.push(fresh);
            }
        }
    }
    Ok(())
}

fn remove_from(map: &mut Map<String, Value>, field: &str, values: &Value) {
    if let (Some(Value::Array(entries)), Value::Array(values)) = (map.get_mut(field), values) {
        entries.retain(|entry| !values.contains(entry));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::strategic_merge;

    fn merged(mut target: Value, patch: &Value) -> Value {
        strategic_merge(&mut target, patch).unwrap();
        target
    }

    #[test]
    fn entries_of_keyed_lists_are_merged_by_their_key() {
        let target = json!({"containers": [{"name": "a", "image": "x", "env": [{"name": "E", "value": "1"}]}]});
        let patch = json!({"containers": [{"name": "a", "env": [{"name": "F", "value": "2"}]}, {"name": "b"}]});
        assert_eq!(
            merged(target, &patch),
            json!({"containers": [
                {"name": "a", "image": "x", "env": [{"name": "E", "value": "1"}, {"name": "F", "value": "2"}]},
                {"name": "b"},
            ]})
        );
    }

    #[test]
    fn directives_delete_and_replace() {
        let target = json!({"volumes": [{"name": "a"}, {"name": "b"}], "finalizers": ["x", "y"], "spec": {"a": 1}});
        let patch = json!({
            "volumes": [{"name": "a", "$patch": "delete"}],
            "$deleteFromPrimitiveList/finalizers": ["x"],
            "$setElementOrder/volumes": [{"name": "b"}],
            "spec": {"$patch": "replace", "b": 2},
        });
        let expected = json!({"volumes": [{"name": "b"}], "finalizers": ["y"], "spec": {"b": 2}});
        assert_eq!(merged(target, &patch), expected);
    }

    #[test]
    fn null_removes_and_other_lists_are_replaced() {
        let patch = json!({"a": null, "args": ["z"]});
        assert_eq!(
            merged(json!({"a": 1, "args": ["x", "y"]}), &patch),
            json!({"args": ["z"]})
        );
    }

    #[test]
    fn an_entry_without_its_key_is_refused() {
        assert!(strategic_merge(&mut json!({}), &json!({"containers": [{"image": "x"}]})).is_err());
    }
}
