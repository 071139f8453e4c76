//! Content negotiation: whole objects, metadata only, or tables.

use bytes::Bytes;
use clock::Clock;
use http::{HeaderMap, header};
use serde_json::{Value, json};

use super::table;
use crate::object::Kind;

/// The form in which a client wants objects.
#[derive(Debug, Clone, Copy)]
pub(super) enum View {
    Whole,
    Metadata,
    /// The clock is for ages.
    Table(Clock),
}

impl View {
    /// The first supported form in the `Accept` header; whole objects by default.
    pub fn accepted(headers: &HeaderMap, clock: Clock) -> Self {
        let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
        for wish in accept.unwrap_or_default().split(',') {
            if wish.contains("as=Table") {
                return Self::Table(clock);
            }
            if wish.contains("as=PartialObjectMetadata") {
                return Self::Metadata;
            }
            if wish.trim().starts_with("application/json") {
                return Self::Whole;
            }
        }
        Self::Whole
    }

    pub fn one(self, kind: &Kind, object: &Bytes) -> Bytes {
        match self {
            Self::Whole => object.clone(),
            Self::Metadata => partial(object).to_string().into(),
            Self::Table(clock) => table::table(kind, &[read(object)], None, true, clock.now())
                .to_string()
                .into(),
        }
    }

    /// An object of a watch. Like kube-apiserver, only the first table has column definitions.
    pub fn watched(self, kind: &Kind, object: &Bytes, is_first: bool) -> Bytes {
        match self {
            Self::Table(clock) => table::table(kind, &[read(object)], None, is_first, clock.now())
                .to_string()
                .into(),
            other => other.one(kind, object),
        }
    }

    pub fn list(self, kind: &Kind, objects: &[Bytes], version: i64, next: Option<String>) -> Bytes {
        let mut metadata = json!({"resourceVersion": version.to_string()});
        if let Some(next) = next {
            metadata["continue"] = next.into();
        }
        match self {
            Self::Whole => {
                // Stored objects are copied as bytes: parsing and serializing them again would dominate large lists.
                let head = format!(
                    "{{\"kind\":\"{}List\",\"apiVersion\":\"{}\",\"metadata\":{metadata},\"items\":[",
                    kind.kind,
                    kind.api_version()
                );
                let size = objects.iter().map(|object| object.len() + 1).sum::<usize>();
                let mut body = Vec::with_capacity(head.len() + size + 2);
                body.extend_from_slice(head.as_bytes());
                for (index, object) in objects.iter().enumerate() {
                    if index > 0 {
                        body.push(b',');
                    }
                    body.extend_from_slice(object);
                }
                body.extend_from_slice(b"]}");
                body.into()
            }
            Self::Metadata => {
                let items: Vec<Value> = objects.iter().map(partial).collect();
                json!({
                    "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1",
                    "metadata": metadata, "items": items,
                })
                .to_string()
                .into()
            }
            Self::Table(clock) => {
                let objects: Vec<Value> = objects.iter().map(read).collect();
                table::table(kind, &objects, Some(metadata), true, clock.now())
                    .to_string()
                    .into()
            }
        }
    }
}

fn read(object: &Bytes) -> Value {
    serde_json::from_slice(object).unwrap_or_default()
}

fn partial(object: &Bytes) -> Value {
    partial_of(&read(object))
}

/// Converts an object to a `PartialObjectMetadata`.
pub(super) fn partial_of(object: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]})
}
