//! Validates names, labels, annotations, and finalizers, with kube-apiserver's messages.

use crate::refusal::FieldErrors;
use serde_json::Value;

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const PART: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";

fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    let inner = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
    !bytes.is_empty() && bytes.iter().all(inner) && bytes[0] != b'-' && bytes[bytes.len() - 1] != b'-'
}

fn is_mixed(text: &str) -> bool {
    let bytes = text.as_bytes();
    let inner = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !bytes.is_empty()
        && bytes.iter().all(inner)
        && bytes[0].is_ascii_alphanumeric()
        && bytes[bytes.len() - 1].is_ascii_alphanumeric()
}

/// Validates a DNS subdomain as defined in RFC 1123.
pub fn subdomain(text: &str) -> Result<(), &'static str> {
    if text.len() > 253 {
        return Err("must be no more than 253 bytes");
    }
    text.split('.').all(is_label).then_some(()).ok_or(SUBDOMAIN)
}

/// Validates a DNS label as defined in RFC 1123.
pub fn label(text: &str) -> Result<(), &'static str> {
    if text.len() > 63 {
        return Err("must be no more than 63 bytes");
    }
    is_label(text).then_some(()).ok_or(LABEL)
}

/// Validates a label's value.
pub fn label_value(text: &str) -> Result<(), &'static str> {
    if text.len() > 63 {
        return Err("must be no more than 63 bytes");
    }
    (text.is_empty() || is_mixed(text)).then_some(()).ok_or(VALUE)
}

/// Validates the key of a label or an annotation.
pub fn qualified(text: &str) -> Result<(), String> {
    let (prefix, part) = match text.split_once('/') {
        Some((prefix, part)) => (Some(prefix), part),
        None => (None, text),
    };
    if let Some(prefix) = prefix {
        if prefix.is_empty() {
            return Err("prefix part must be non-empty".to_owned());
        }
        subdomain(prefix).map_err(|why| format!("prefix part {why}"))?;
    }
    if part.is_empty() {
        return Err("name part must be non-empty".to_owned());
    }
    if part.len() > 63 {
        return Err("name part must be no more than 63 bytes".to_owned());
    }
    is_mixed(part).then_some(()).ok_or_else(|| PART.to_owned())
}

pub fn check_finalizers(names: &[&str], errors: &mut FieldErrors) {
    for (index, name) in names.iter().enumerate() {
        let field = format!("metadata.finalizers[{index}]");
        if let Err(why) = qualified(name) {
            errors.invalid(field, *name, &why);
        } else if !name.contains('/') && !["kubernetes", "orphan", "foregroundDeletion"].contains(name) {
            errors.invalid(
                field,
                *name,
                "name is neither a standard finalizer name nor is it fully qualified",
            );
        }
    }
}

/// Maximum total size of an object's annotations in bytes; Kubernetes' limit.
const MAX_ANNOTATIONS: usize = 256 * 1024;

/// Validates labels and annotations.
pub fn check_metadata(metadata: &Value, path: &str, errors: &mut FieldErrors) {
    let pairs = |field: &str| metadata[field].as_object().into_iter().flatten();
    for (key, value) in pairs("labels") {
        if let Err(why) = qualified(key) {
            errors.invalid(format!("{path}.labels"), key.as_str(), &why);
        }
        if let Err(why) = label_value(value.as_str().unwrap_or_default()) {
            errors.invalid(format!("{path}.labels"), value.clone(), why);
        }
    }
    let mut size = 0;
    for (key, value) in pairs("annotations") {
        // As in kube-apiserver, annotation keys are qualified names whose case doesn't matter.
        if let Err(why) = qualified(&key.to_lowercase()) {
            errors.invalid(format!("{path}.annotations"), key.as_str(), &why);
        }
        size += key.len() + value.as_str().map_or(0, str::len);
    }
    if size > MAX_ANNOTATIONS {
        errors.too_long(format!("{path}.annotations"), MAX_ANNOTATIONS);
    }
}
