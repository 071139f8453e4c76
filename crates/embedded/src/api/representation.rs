//! Content negotiation: whole objects, metadata only, or tables.

use bytes::Bytes;
use clock::Clock;
use http::{HeaderMap, header};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ListMeta;
use serde_json::{Value, json};

use crate::kubectl::table;
use crate::object::{Kind, partial_metadata};

/// The form in which a client wants objects.
#[derive(Debug, Clone, Copy)]
pub(super) enum Representation {
    Full,
    Metadata,
    /// The clock is for ages.
    Table(Clock),
}

impl Representation {
    /// The first supported form in the `Accept` header; whole objects by default.
    pub(crate) fn from_accept(headers: &HeaderMap, clock: Clock) -> Self {
        let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
        for form in accept.unwrap_or_default().split(',') {
            if form.contains("as=Table") {
                return Self::Table(clock);
            }
            if form.contains("as=PartialObjectMetadata") {
                return Self::Metadata;
            }
            if form.trim().starts_with("application/json") {
                return Self::Full;
            }
        }
        Self::Full
    }

    pub(crate) fn encode(self, kind: Kind, object: &Bytes) -> Bytes {
        match self {
            Self::Full => object.clone(),
            Self::Metadata => decode_partial(object).to_string().into(),
            Self::Table(clock) => table(kind, &[decode(object)], None, true, clock.now())
                .to_string()
                .into(),
        }
    }

    /// An object of a watch. Like kube-apiserver, only the first table has column definitions.
    pub(crate) fn encode_watched(self, kind: Kind, object: &Bytes, is_first: bool) -> Bytes {
        match self {
            Self::Table(clock) => table(kind, &[decode(object)], None, is_first, clock.now())
                .to_string()
                .into(),
            other => other.encode(kind, object),
        }
    }

    pub(crate) fn encode_list(self, kind: Kind, objects: &[Bytes], version: i64, next: Option<String>) -> Bytes {
        let metadata = ListMeta {
            resource_version: Some(version.to_string()),
            continue_: next,
            ..ListMeta::default()
        };
        match self {
            Self::Full => {
                // Stored objects are copied as bytes: parsing and serializing them again would dominate large lists.
                // Serializing the metadata never fails.
                let metadata = serde_json::to_string(&metadata).unwrap_or_default();
                let head = format!(
                    "{{\"kind\":\"{}List\",\"apiVersion\":\"{}\",\"metadata\":{metadata},\"items\":[",
                    kind.name(),
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
                let items: Vec<Value> = objects.iter().map(decode_partial).collect();
                json!({
                    "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1",
                    "metadata": metadata, "items": items,
                })
                .to_string()
                .into()
            }
            Self::Table(clock) => {
                let objects: Vec<Value> = objects.iter().map(decode).collect();
                table(kind, &objects, Some(metadata), true, clock.now())
                    .to_string()
                    .into()
            }
        }
    }
}

fn decode(object: &Bytes) -> Value {
    serde_json::from_slice(object).unwrap_or_default()
}

fn decode_partial(object: &Bytes) -> Value {
    partial_metadata(&decode(object))
}
