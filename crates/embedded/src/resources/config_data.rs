//! Defaults and validation of ConfigMaps and Secrets.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use serde_json::Value;

use super::candidate::Candidate;
use crate::field_errors::FieldErrors;
use crate::status_error::StatusError;

/// Maximum total size of an object's data in bytes; Kubernetes' limit.
const MAX_DATA: usize = 1024 * 1024;

/// `v1/ConfigMap`.
pub(super) fn prepare_config_map(candidate: Candidate<'_>) -> Result<Value, StatusError> {
    candidate.prepare_as::<ConfigMap>(
        |_, _| {},
        |map, old, errors| {
            let texts = map.data.iter().flatten().map(|(key, value)| (key, value.len()));
            let binary = map
                .binary_data
                .iter()
                .flatten()
                .map(|(key, value)| (key, value.0.len()));
            validate_data("data", texts.chain(binary), errors);
            for key in map.binary_data.iter().flatten().map(|(key, _)| key) {
                if map.data.as_ref().is_some_and(|data| data.contains_key(key)) {
                    let why = "duplicate of key present in data";
                    errors.invalid(format!("binaryData[{key}]"), key.as_str(), why);
                }
            }
            if let Some(old) = old.filter(|old| old.immutable == Some(true)) {
                if map.immutable != Some(true) {
                    errors.forbidden("immutable", IMMUTABLE);
                }
                if map.data != old.data {
                    errors.forbidden("data", IMMUTABLE);
                }
            }
        },
    )
}

/// `v1/Secret`.
pub(super) fn prepare_secret(candidate: Candidate<'_>) -> Result<Value, StatusError> {
    candidate.prepare_as::<Secret>(
        |secret, old| {
            if let Some(texts) = secret.string_data.take() {
                let data: &mut BTreeMap<String, ByteString> = secret.data.get_or_insert_default();
                data.extend(
                    texts
                        .into_iter()
                        .map(|(key, text)| (key, ByteString(text.into_bytes()))),
                );
            }
            let kept = old.and_then(|old| old.type_.clone());
            secret
                .type_
                .get_or_insert_with(|| kept.unwrap_or_else(|| "Opaque".to_owned()));
        },
        |secret, old, errors| {
            let sizes = secret.data.iter().flatten().map(|(key, value)| (key, value.0.len()));
            validate_data("data", sizes, errors);
            if let Some(old) = old {
                if secret.type_ != old.type_ {
                    errors.invalid(
                        "type",
                        secret.type_.as_deref().unwrap_or_default(),
                        "field is immutable",
                    );
                }
                if old.immutable == Some(true) && secret.data != old.data {
                    errors.forbidden("data", IMMUTABLE);
                }
            }
        },
    )
}

const IMMUTABLE: &str = "field is immutable when `immutable` is set";

fn validate_data<'a>(field: &str, sizes: impl Iterator<Item = (&'a String, usize)>, errors: &mut FieldErrors) {
    let mut total = 0;
    for (key, size) in sizes {
        total += size;
        let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if key.is_empty() || key.len() > 253 || !key.bytes().all(known) || key == "." || key.starts_with("..") {
            let why = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
            errors.invalid(format!("{field}[{key}]"), key.as_str(), why);
        }
    }
    if total > MAX_DATA {
        errors.too_long("", MAX_DATA);
    }
}
