//! Objects as the API stores them: JSON with a kind, and accessors for their metadata.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp, Unit};
use serde::de::value::MapDeserializer;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::kind::{Kind, ObjectType};

/// A JSON object and its kind. Copies share the JSON until one of them is changed: a change of one field of an object
/// is compared, shown to controllers, and kept, each time as a copy.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Object {
    pub kind: Kind,
    value: Arc<Value>,
}

/// Identifies an object until it is deleted; another one may then take its name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ObjectKey {
    pub kind: Kind,
    /// Empty for cluster-scoped objects.
    pub namespace: String,
    pub name: String,
}

impl Object {
    /// Wraps a value, and sets its `apiVersion`, `kind`, and, if missing, `metadata`.
    pub(crate) fn new(kind: Kind, mut value: Value) -> Self {
        if !value.is_object() {
            value = json!({});
        }
        if !value["metadata"].is_object() {
            value["metadata"] = json!({});
        }
        value["apiVersion"] = kind.api_version().into();
        value["kind"] = kind.name().into();
        Self::from_stored(kind, value)
    }

    /// Wraps a value that has everything that [`Self::new`] would set.
    pub(crate) fn from_stored(kind: Kind, value: Value) -> Self {
        Self {
            kind,
            value: Arc::new(value),
        }
    }

    /// Decodes a stored object.
    pub(crate) fn decode(kind: Kind, bytes: &[u8]) -> serde_json::Result<Self> {
        Ok(Self::from_stored(kind, serde_json::from_slice(bytes)?))
    }

    /// Encodes an object of a known type.
    pub(crate) fn encode<T: ObjectType + Serialize>(object: &T) -> serde_json::Result<Self> {
        Ok(Self::from_stored(T::OBJECT_KIND, serde_json::to_value(object)?))
    }

    /// The JSON.
    pub(crate) fn value(&self) -> &Value {
        &self.value
    }

    /// The JSON, to be changed.
    pub(crate) fn value_mut(&mut self) -> &mut Value {
        Arc::make_mut(&mut self.value)
    }

    /// Takes over metadata fields of `old`, and removes those that it doesn't have.
    pub(crate) fn copy_metadata(&mut self, old: &Self, fields: &[&str]) {
        for field in fields {
            match old.value["metadata"].get(field) {
                Some(value) => self.set(field, value.clone()),
                None => drop(self.metadata_mut().shift_remove(*field)),
            }
        }
    }

    pub(crate) fn has_same_spec(&self, other: &Self) -> bool {
        self.value["spec"] == other.value["spec"]
    }

    pub(crate) fn has_status(&self) -> bool {
        !self.value["status"].is_null()
    }

    /// Takes over the whole status of `other`.
    pub(crate) fn copy_status(&mut self, other: &Self) {
        self.value_mut()["status"] = other.value["status"].clone();
    }

    /// Moves the `status` out of another object.
    pub(crate) fn take_status(&mut self, other: &mut Self) {
        self.value_mut()["status"] = other.value_mut()["status"].take();
    }

    pub(crate) fn remove_status(&mut self) {
        if let Value::Object(map) = self.value_mut() {
            map.shift_remove("status");
        }
    }

    /// Decodes the `spec`; the default if there is none.
    pub(crate) fn spec<'a, T: Deserialize<'a> + Default>(&'a self) -> serde_json::Result<T> {
        decode_part(&self.value["spec"])
    }

    /// Decodes the `spec` without one of its fields, which gets its default: pod templates and containers are most of a
    /// spec, and the controllers decode one for each change.
    pub(crate) fn spec_without<'a, T: Deserialize<'a>>(&'a self, field: &str) -> serde_json::Result<T> {
        let fields = self.value["spec"].as_object().into_iter().flatten();
        let fields = fields.filter(|(name, _)| *name != field);
        T::deserialize(MapDeserializer::new(fields.map(|(name, value)| (name.as_str(), value))))
    }

    pub(crate) fn set_spec(&mut self, spec: &impl Serialize) -> serde_json::Result<()> {
        self.value_mut()["spec"] = serde_json::to_value(spec)?;
        Ok(())
    }

    /// Decodes the `status`; the default if there is none.
    pub(crate) fn status<'a, T: Deserialize<'a> + Default>(&'a self) -> serde_json::Result<T> {
        decode_part(&self.value["status"])
    }

    /// Replaces the `status`. The rest of the object stays as it was stored, with fields that its type doesn't know.
    pub(crate) fn set_status(&mut self, status: &impl Serialize) -> serde_json::Result<()> {
        self.value_mut()["status"] = serde_json::to_value(status)?;
        Ok(())
    }

    /// Decodes the `status`, changes it, and replaces it.
    pub(crate) fn update_status<T>(&mut self, change: impl FnOnce(&mut T)) -> serde_json::Result<()>
    where
        T: for<'a> Deserialize<'a> + Default + Serialize,
    {
        let mut status = self.status()?;
        change(&mut status);
        self.set_status(&status)
    }

    /// The `status.phase` of a pod, a claim, or a namespace, without decoding the rest; empty if absent.
    pub(crate) fn phase(&self) -> &str {
        self.value["status"]["phase"].as_str().unwrap_or_default()
    }

    /// A string in the metadata; empty if absent.
    pub(crate) fn metadata_str(&self, field: &str) -> &str {
        self.value["metadata"][field].as_str().unwrap_or_default()
    }

    pub(crate) fn metadata_mut(&mut self) -> &mut Map<String, Value> {
        let metadata = &mut self.value_mut()["metadata"];
        if !metadata.is_object() {
            *metadata = json!({});
        }
        metadata
            .as_object_mut()
            .expect("metadata should be an object, as set above")
    }

    /// Sets a metadata field.
    pub(crate) fn set(&mut self, field: &str, value: impl Into<Value>) {
        self.metadata_mut().insert(field.to_owned(), value.into());
    }

    pub(crate) fn name(&self) -> &str {
        self.metadata_str("name")
    }

    /// Empty for cluster-scoped objects.
    pub(crate) fn namespace(&self) -> &str {
        self.metadata_str("namespace")
    }

    /// Unique among all objects, including deleted ones.
    pub(crate) fn uid(&self) -> &str {
        self.metadata_str("uid")
    }

    /// The `resourceVersion` as a number; 0 if absent.
    pub(crate) fn version(&self) -> i64 {
        self.metadata_str("resourceVersion").parse().unwrap_or(0)
    }

    pub(crate) fn key(&self) -> ObjectKey {
        ObjectKey {
            kind: self.kind,
            namespace: self.namespace().to_owned(),
            name: self.name().to_owned(),
        }
    }

    /// Counts the changes of its `spec`.
    pub(crate) fn generation(&self) -> i64 {
        self.value["metadata"]["generation"].as_i64().unwrap_or(0)
    }

    /// When it was created.
    pub(crate) fn created(&self) -> Option<Timestamp> {
        self.metadata_str("creationTimestamp").parse().ok()
    }

    /// Seconds of grace that its deletion leaves it; 0 if it is not being deleted.
    pub(crate) fn deletion_grace_period(&self) -> i64 {
        self.value["metadata"]["deletionGracePeriodSeconds"]
            .as_i64()
            .unwrap_or(0)
    }

    /// Whether its deletion has begun.
    pub(crate) fn is_deleting(&self) -> bool {
        self.value["metadata"]["deletionTimestamp"].is_string()
    }

    pub(crate) fn labels(&self) -> BTreeMap<&str, &str> {
        string_pairs(&self.value["metadata"]["labels"])
    }

    pub(crate) fn annotations(&self) -> BTreeMap<&str, &str> {
        string_pairs(&self.value["metadata"]["annotations"])
    }

    pub(crate) fn finalizers(&self) -> Vec<&str> {
        let list = self.value["metadata"]["finalizers"].as_array();
        list.into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// Adds a finalizer unless it is present.
    pub(crate) fn add_finalizer(&mut self, name: &str) {
        if !self.finalizers().contains(&name) {
            let mut all: Vec<Value> = self.finalizers().into_iter().map(Value::from).collect();
            all.push(name.into());
            self.set("finalizers", all);
        }
    }

    pub(crate) fn remove_finalizer(&mut self, name: &str) {
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

    pub(crate) fn owner_references(&self) -> Vec<OwnerReference<'_>> {
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

    pub(crate) fn remove_owner_reference(&mut self, uid: &str) {
        if let Some(Value::Array(owners)) = self.metadata_mut().get_mut("ownerReferences") {
            owners.retain(|owner| owner["uid"] != uid);
            if owners.is_empty() {
                self.metadata_mut().shift_remove("ownerReferences");
            }
        }
    }

    /// Marks the object as being deleted, with a grace period in seconds. As in Kubernetes, `deletionTimestamp` is the
    /// end of the grace period.
    pub(crate) fn begin_deletion(&mut self, grace: u32, now: Timestamp) {
        self.set("deletionTimestamp", format_time(add_seconds(now, grace.into())));
        self.set("deletionGracePeriodSeconds", grace);
    }
}

/// An entry of `ownerReferences`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OwnerReference<'a> {
    pub uid: &'a str,
    pub kind: &'a str,
    pub name: &'a str,
    /// Whether this owner is the managing controller.
    pub is_controller: bool,
    /// Whether this owner's foreground deletion waits for the object (`blockOwnerDeletion`).
    pub blocks_deletion: bool,
}

/// Adds seconds to a time, or subtracts them if negative. Saturates: clients may send any number.
pub(crate) fn add_seconds(time: Timestamp, seconds: i64) -> Timestamp {
    let end = if seconds < 0 { Timestamp::MIN } else { Timestamp::MAX };
    time.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(end)
}

/// Formats a time as `metav1.Time`, in whole seconds.
pub(crate) fn format_time(timestamp: Timestamp) -> String {
    let whole = timestamp.round(Unit::Second).unwrap_or(timestamp);
    // Rounding up would yield times in the future.
    let whole = if whole > timestamp {
        add_seconds(whole, -1)
    } else {
        whole
    };
    whole.to_string()
}

/// Decodes a part of an object; the default if it is absent.
fn decode_part<'a, T: Deserialize<'a> + Default>(part: &'a Value) -> serde_json::Result<T> {
    Option::deserialize(part).map(Option::unwrap_or_default)
}

fn string_pairs(value: &Value) -> BTreeMap<&str, &str> {
    let map = value.as_object();
    map.into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
        .collect()
}

/// The `resourceVersion` of an object.
pub(crate) fn resource_version(object: &Value) -> Option<String> {
    object["metadata"]["resourceVersion"].as_str().map(str::to_owned)
}

/// Converts an object to a `PartialObjectMetadata`.
pub(crate) fn partial_metadata(object: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]})
}
