//! Objects as the API stores them: JSON with a kind, and the one place that reaches into their metadata.

mod kind;
mod merge;
pub mod name;
mod selector;

pub use kind::{KINDS, Kind, kind_of, named};
pub use merge::strategic_merge;
pub use selector::{FieldSelector, LabelSelector, Selection};

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp, Unit};
use serde_json::{Map, Value, json};

/// An object of a kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// What it is.
    pub kind: &'static Kind,
    /// All of it.
    pub value: Value,
}

/// What names an object: its kind, its namespace (empty where it has none), and its name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The kind's plural with its group.
    pub kind: &'static str,
    /// Empty for what is in no namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl Object {
    /// Wraps the value of an object, and gives it its kind's name and a metadata.
    #[must_use]
    pub fn new(kind: &'static Kind, mut value: Value) -> Self {
        if !value.is_object() {
            value = json!({});
        }
        if !value["metadata"].is_object() {
            value["metadata"] = json!({});
        }
        value["apiVersion"] = kind.api_version().into();
        value["kind"] = kind.kind.into();
        Self { kind, value }
    }

    /// A text of its metadata; empty when there is none.
    #[must_use]
    pub fn text_of(&self, field: &str) -> &str {
        self.value["metadata"][field].as_str().unwrap_or_default()
    }

    /// Its metadata, to be changed.
    pub fn metadata_mut(&mut self) -> &mut Map<String, Value> {
        let metadata = &mut self.value["metadata"];
        if !metadata.is_object() {
            *metadata = json!({});
        }
        metadata.as_object_mut().expect("it was made an object above")
    }

    /// Sets a field of the metadata.
    pub fn set(&mut self, field: &str, value: impl Into<Value>) {
        self.metadata_mut().insert(field.to_owned(), value.into());
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.text_of("name")
    }

    /// Its namespace; empty when it has none.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.text_of("namespace")
    }

    /// Its identity, which no other object ever has.
    #[must_use]
    pub fn uid(&self) -> &str {
        self.text_of("uid")
    }

    /// Its version; 0 when it has none.
    #[must_use]
    pub fn version(&self) -> i64 {
        self.text_of("resourceVersion").parse().unwrap_or(0)
    }

    /// What names it.
    #[must_use]
    pub fn key(&self) -> Key {
        Key {
            kind: self.kind.plural,
            namespace: self.namespace().to_owned(),
            name: self.name().to_owned(),
        }
    }

    /// Whether it is on its way out.
    #[must_use]
    pub fn is_deleting(&self) -> bool {
        self.value["metadata"]["deletionTimestamp"].is_string()
    }

    /// Its labels.
    #[must_use]
    pub fn labels(&self) -> BTreeMap<&str, &str> {
        pairs(&self.value["metadata"]["labels"])
    }

    /// What must happen before it may go.
    #[must_use]
    pub fn finalizers(&self) -> Vec<&str> {
        let list = self.value["metadata"]["finalizers"].as_array();
        list.into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// Adds a finalizer.
    pub fn add_finalizer(&mut self, name: &str) {
        if !self.finalizers().contains(&name) {
            let mut all: Vec<Value> = self.finalizers().into_iter().map(Value::from).collect();
            all.push(name.into());
            self.set("finalizers", all);
        }
    }

    /// Takes a finalizer away.
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

    /// Who owns it.
    #[must_use]
    pub fn owners(&self) -> Vec<OwnerReference<'_>> {
        let list = self.value["metadata"]["ownerReferences"].as_array();
        list.into_iter()
            .flatten()
            .map(|owner| OwnerReference {
                uid: owner["uid"].as_str().unwrap_or_default(),
                kind: owner["kind"].as_str().unwrap_or_default(),
                name: owner["name"].as_str().unwrap_or_default(),
                controller: owner["controller"].as_bool().unwrap_or_default(),
                blocks: owner["blockOwnerDeletion"].as_bool().unwrap_or_default(),
            })
            .collect()
    }

    /// Takes an owner away.
    pub fn remove_owner(&mut self, uid: &str) {
        if let Some(Value::Array(owners)) = self.metadata_mut().get_mut("ownerReferences") {
            owners.retain(|owner| owner["uid"] != uid);
            if owners.is_empty() {
                self.metadata_mut().shift_remove("ownerReferences");
            }
        }
    }

    /// Marks it as being deleted, with the time it is given.
    pub fn begin_deletion(&mut self, grace: u32, now: Timestamp) {
        self.set("deletionTimestamp", time(later(now, grace.into())));
        self.set("deletionGracePeriodSeconds", grace);
    }

    /// Whether the controllers still have something to do with it.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.is_deleting() || (self.kind.is_active)(&self.value)
    }
}

/// One owner of an object.
#[derive(Debug, Clone, Copy)]
pub struct OwnerReference<'a> {
    /// Its identity.
    pub uid: &'a str,
    /// Its kind.
    pub kind: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Whether it is the controller.
    pub controller: bool,
    /// Whether its foreground deletion waits for this object.
    pub blocks: bool,
}

/// So many seconds after a time, or before it; what people and programs ask for may be more than there is time.
#[must_use]
pub fn later(time: Timestamp, seconds: i64) -> Timestamp {
    let end = if seconds < 0 { Timestamp::MIN } else { Timestamp::MAX };
    time.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(end)
}

/// A time as `metav1.Time` writes it: whole seconds.
#[must_use]
pub fn time(timestamp: Timestamp) -> String {
    let whole = timestamp.round(Unit::Second).unwrap_or(timestamp);
    // Rounding up would give times of the future.
    let whole = if whole > timestamp { later(whole, -1) } else { whole };
    whole.to_string()
}

fn pairs(value: &Value) -> BTreeMap<&str, &str> {
    let map = value.as_object();
    map.into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
        .collect()
}
