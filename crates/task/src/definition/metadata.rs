//! Parses the labels and annotations that a user adds to the pods of a task.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::keys::CUSTOM_METADATA;
use crate::validation::{Fields, Validator, coerce};

/// The maximum number of labels and of annotations.
pub(super) const MAX_ENTRIES: usize = 64;

/// The maximum length of an annotation in bytes. Kubernetes limits all of a pod's to 256 KiB, some of which are ours.
pub(super) const MAX_ANNOTATION_BYTES: usize = 2000;

/// The maximum length of a label value, and of the name in a key.
pub(super) const MAX_NAME_BYTES: usize = 63;

/// The maximum length of the prefix of a key.
const MAX_PREFIX_BYTES: usize = 253;

/// The pattern of a key, for the OpenAPI document; [`key_error`] implements the rule. Reserved keys and the length of
/// the name are only in the description.
pub(super) const KEY_PATTERN: &str =
    r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$";

/// The maximum length of a key.
pub(super) const MAX_KEY_LENGTH: usize = MAX_PREFIX_BYTES + 1 + MAX_NAME_BYTES;

/// The pattern of a label value, for the OpenAPI document; [`is_name`] implements the rule.
pub(super) const LABEL_VALUE_PATTERN: &str = "^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$";

/// The labels that the server finds its objects by.
const RESERVED_KEYS: [&str; 10] = [
    // Of the Job controller, and the identity of a pod at Azure.
    "job-name",
    "controller-uid",
    "aadpodidbinding",
    "skypilot-task",
    "skypilot-volume",
    "task-id",
    "task-name",
    "username",
    "node-idx",
    "num-nodes",
];

/// The domains whose keys have a meaning for the server or the cluster, including their subdomains. With those of cloud
/// providers, a task could choose its identity.
const RESERVED_DOMAINS: [&str; 8] = [
    "k8s-cli",
    "kubernetes.io",
    "k8s.io",
    "x-k8s.io",
    "amazonaws.com",
    "azure.workload.identity",
    "gke.io",
    // Attaches pods to other networks.
    "cncf.io",
];

/// The beginnings of names without a domain with which container runtimes are configured.
const RESERVED_NAMES: [&str; 2] = ["io.kubernetes.", "io.katacontainers."];

/// Labels and annotations.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Metadata {
    /// The labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The annotations.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Metadata {
    /// Whether there are neither labels nor annotations.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.annotations.is_empty()
    }

    /// The size of all keys and values, in bytes.
    pub(super) fn bytes(&self) -> usize {
        bytes(&self.labels) + bytes(&self.annotations)
    }

    /// Parses `config.kubernetes.custom_metadata`.
    pub(super) fn from_value(value: &Value, validator: &mut Validator) -> Option<Self> {
        let mut fields = Fields::from_value(value, validator)?;
        let labels = fields.optional("labels", parse_labels);
        let annotations = fields.optional("annotations", parse_annotations);
        CUSTOM_METADATA.finish(fields);
        Some(Self {
            labels: labels.unwrap_or_default(),
            annotations: annotations.unwrap_or_default(),
        })
    }
}

/// The size of all keys and values, in bytes.
pub(super) fn bytes(entries: &BTreeMap<String, String>) -> usize {
    entries.iter().map(|(key, value)| key.len() + value.len()).sum()
}

pub(super) fn parse_labels(value: &Value, validator: &mut Validator) -> Option<BTreeMap<String, String>> {
    parse_entries(value, validator, |text| {
        let is_valid = text.is_empty() || is_name(text);
        (!is_valid).then(|| {
            format!(
                "invalid label value `{text}`; use at most {MAX_NAME_BYTES} letters, digits, `-`, `_`, or `.`, and \
                 start and end with a letter or digit"
            )
        })
    })
}

fn parse_annotations(value: &Value, validator: &mut Validator) -> Option<BTreeMap<String, String>> {
    parse_entries(value, validator, |text| {
        (text.len() > MAX_ANNOTATION_BYTES).then(|| format!("must be at most {MAX_ANNOTATION_BYTES} bytes"))
    })
}

fn parse_entries(
    value: &Value,
    validator: &mut Validator,
    value_error: impl Fn(&str) -> Option<String>,
) -> Option<BTreeMap<String, String>> {
    let entries = coerce::map(value, validator, MAX_ENTRIES, |key, value, validator| {
        let text = coerce::string(value, validator)?;
        match key_error(key).or_else(|| value_error(&text)) {
            Some(reason) => validator.value_error(reason, value),
            None => Some((key.to_owned(), text)),
        }
    })?;
    Some(entries.into_iter().collect())
}

/// Why Kubernetes would reject the key of a label or annotation, or why it is reserved.
/// Source: <https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set>.
#[must_use]
pub fn key_error(key: &str) -> Option<String> {
    let (domain, name) = key.split_once('/').unwrap_or(("", key));
    let is_domain = domain.len() <= MAX_PREFIX_BYTES && domain.split('.').all(is_dns_label);
    if !is_name(name) || (key.contains('/') && !is_domain) {
        return Some(format!(
            "invalid key `{key}`; expected, e.g., `team` or `example.com/team`"
        ));
    }
    let is_reserved = |reserved: &str| domain == reserved || domain.ends_with(&format!(".{reserved}"));
    let is_runtime = RESERVED_NAMES.iter().any(|prefix| name.starts_with(prefix));
    if is_runtime || RESERVED_KEYS.contains(&key) || RESERVED_DOMAINS.into_iter().any(is_reserved) {
        return Some(format!("the key `{key}` is reserved; choose another one"));
    }
    None
}

fn is_name(text: &str) -> bool {
    let is_end = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    let is_allowed = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    bytes.len() <= MAX_NAME_BYTES && is_end(bytes.first()) && is_end(bytes.last()) && bytes.iter().all(is_allowed)
}

fn is_dns_label(text: &str) -> bool {
    let is_end = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let bytes = text.as_bytes();
    let is_allowed = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
    is_end(bytes.first()) && is_end(bytes.last()) && bytes.iter().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use super::key_error;

    #[test]
    fn a_key_is_what_kubernetes_takes_and_not_one_of_ours() {
        for key in ["team", "example.com/team", "A_b.c-1", "sky/pilot"] {
            assert_eq!(key_error(key), None, "{key}");
        }
        for key in ["", "-a", "a-", "a b", "a/b/c", "/a", "A.b/c", ".a/b"] {
            assert!(key_error(key).unwrap().contains("invalid key"), "{key}");
        }
        for key in [
            "task-id",
            "k8s-cli/user",
            "kueue.x-k8s.io/queue-name",
            "batch.kubernetes.io/job-name",
            "job-name",
            "iam.amazonaws.com/role",
        ] {
            assert!(key_error(key).unwrap().contains("reserved"), "{key}");
        }
    }
}
