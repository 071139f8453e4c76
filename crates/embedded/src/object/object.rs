//! Objects as the API stores them: JSON with a kind, and accessors for their metadata.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp, Unit};
use serde_json::{Map, Value, json};

use super::kind::Kind;

/// A JSON object and its kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    pub kind: Kind,
    pub value: Value,
}

/// Identifies an object until it is deleted; another one may then take its name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    pub kind: Kind,
    /// Empty for cluster-scoped objects.
    pub namespace: String,
    pub name: String,
}

impl Object {
    /// Wraps a value, and sets its `apiVersion`, `kind`, and, if missing, `metadata`.
    pub fn new(kind: Kind, mut value: Value) -> Self {
        if !value.is_object() {
            value = json!({});
        }
        if !value["metadata"].is_object() {
            value["metadata"] = json!({});
        }
        value["apiVersion"] = kind.api_version().into();
        value["kind"] = kind.name().into();
        Self { kind, value }
    }

    /// A string in the metadata; empty if absent.
    pub fn metadata_str(&self, field: &str) -> &str {
        self.value["metadata"][field].as_str().unwrap_or_default()
    }

    pub fn metadata_mut(&mut self) -> &mut Map<String, Value> {
        let metadata = &mut self.value["metadata"];
        if !metadata.is_object() {
            *metadata = json!({});
        }
        metadata
            .as_object_mut()
            .expect("metadata should be an object, as set above")
    }

    /// Sets a metadata field.
    pub fn set(&mut self, field: &str, value: impl Into<Value>) {
        self.metadata_mut().insert(field.to_owned(), value.into());
    }

    pub fn name(&self) -> &str {
        self.metadata_str("name")
    }

    /// Empty for cluster-scoped objects.
    pub fn namespace(&self) -> &str {
        self.metadata_str("namespace")
    }

    /// Unique among all objects, including deleted ones.
    pub fn uid(&self) -> &str {
        self.metadata_str("uid")
    }

    /// The `resourceVersion` as a number; 0 if absent.
    pub fn version(&self) -> i64 {
        self.metadata_str("resourceVersion").parse().unwrap_or(0)
    }

    pub fn key(&self) -> ObjectKey {
        ObjectKey {
            kind: self.kind,
            namespace: self.namespace().to_owned(),
            name: self.name().to_owned(),
        }
    }

    /// Whether its deletion has begun.
    pub fn is_deleting(&self) -> bool {
        self.value["metadata"]["deletionTimestamp"].is_string()
    }

    pub fn labels(&self) -> BTreeMap<&str, &str> {
        string_pairs(&self.value["metadata"]["labels"])
    }

    pub fn finalizers(&self) -> Vec<&str> {
        let list = self.value["metadata"]["finalizers"].as_array();
        list.into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// Adds a finalizer unless it is present.
    pub fn add_finalizer(&mut self, name: &str) {
        if !self.finalizers().contains(&name) {
            let mut all: Vec<Value> = self.finalizers().into_iter().map(Value::from).collect();
            all.push(name.into());
            self.set("finalizers", all);
        }
    }

    pub fn remove_finalizer(&mut self, name: &str) {
        let rest: Vec<Value> = self
            .finalizers()
            .into_iter()
            .filter(|one| *one != name)
            .map(Value::from)
            .collect();
        if rest.is_empty() {
            self.metadata_mut().shift_remove("finalizers");
        } else {
            self.set("finalizers", rest);
        }
    }

    pub fn owner_references(&self) -> Vec<OwnerReference<'_>> {
        let list = self.value["metadata"]["ownerReferences"].as_array();
        list.into_iter()
            .flatten()
            .map(|owner| OwnerReference {
                uid: owner["uid"].as_str().unwrap_or_default(),
                kind: owner["kind"].as_str().unwrap_or_default(),
                name: owner["name"].as_str().unwrap_or_default(),
                is_controller: owner["controller"].as_bool().unwrap_or_default(),
                blocks_deletion: owner["blockOwnerDeletion"].as_bool().unwrap_or_default(),
            })
            .collect()
    }

    pub fn remove_owner_reference(&mut self, uid: &str) {
        if let Some(Value::Array(owners)) = self.metadata_mut().get_mut("ownerReferences") {
            owners.retain(|owner| owner["uid"] != uid);
            if owners.is_empty() {
                self.metadata_mut().shift_remove("ownerReferences");
            }
        }
    }

    /// Marks the object as being deleted, with a grace period in seconds. As in Kubernetes, `deletionTimestamp` is the
    /// end of the grace period.
    pub fn begin_deletion(&mut self, grace: u32, now: Timestamp) {
        self.set("deletionTimestamp", format_time(add_seconds(now, grace.into())));
        self.set("deletionGracePeriodSeconds", grace);
    }

    /// Sets a condition in its status, replacing one of the same type.
    pub fn set_condition(&mut self, condition: Value) {
        let conditions = &mut self.value["status"]["conditions"];
        if !conditions.is_array() {
            *conditions = json!([]);
        }
        if let Value::Array(list) = conditions {
            list.retain(|one| one["type"] != condition["type"]);
            list.push(condition);
        }
    }
}

/// An entry of `ownerReferences`.
#[derive(Debug, Clone, Copy)]
pub struct OwnerReference<'a> {
    pub uid: &'a str,
    pub kind: &'a str,
    pub name: &'a str,
    /// Whether this owner is the managing controller.
    pub is_controller: bool,
    /// Whether this owner's foreground deletion waits for the object (`blockOwnerDeletion`).
    pub blocks_deletion: bool,
}

/// Adds seconds to a time, or subtracts them if negative. Saturates: clients may send any number.
pub fn add_seconds(time: Timestamp, seconds: i64) -> Timestamp {
    let end = if seconds < 0 { Timestamp::MIN } else { Timestamp::MAX };
    time.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(end)
}

/// Formats a time as `metav1.Time`, in whole seconds.
pub fn format_time(timestamp: Timestamp) -> String {
    let whole = timestamp.round(Unit::Second).unwrap_or(timestamp);
    // Rounding up would yield times in the future.
    let whole = if whole > timestamp {
        add_seconds(whole, -1)
    } else {
        whole
    };
    whole.to_string()
}

fn string_pairs(value: &Value) -> BTreeMap<&str, &str> {
    let map = value.as_object();
    map.into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
        .collect()
}

/// Converts an object to a `PartialObjectMetadata`.
pub fn partial_metadata(object: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]})
}
