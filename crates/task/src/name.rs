//! Names of tasks and volumes, and the Kubernetes names derived from them.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

use crate::id::Id;
use crate::validation::{Validator, coerce};

/// The maximum length of a name. Where Kubernetes allows less, the name is shortened.
pub const MAX_LENGTH: usize = 253;

/// The maximum length of a label value, and thus of the name of a Job, which is a label of its pods.
/// Source: <https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set>.
pub const MAX_LABEL_LENGTH: usize = 63;

/// The pattern of a name, for the OpenAPI document; [`Name::new`] implements the rule.
pub const PATTERN: &str = "^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$";

/// A valid name: ASCII letters, digits, `.`, `_` and `-`, with a letter or digit at both ends.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Name(String);

impl Name {
    /// Parses a name from JSON.
    pub fn from_value(value: &Value, validator: &mut Validator) -> Option<Self> {
        let name = coerce::string(value, validator)?;
        if is_valid(&name) {
            return Some(Self(name));
        }
        validator.value_error(
            format!(
                "a name must be 1 to {MAX_LENGTH} ASCII letters, digits, `.`, `_`, or `-`, and start and end with a \
                 letter or digit"
            ),
            value,
        )
    }

    /// Checks a name, e.g., from an annotation. Returns `None` if it is invalid.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        is_valid(text).then(|| Self(text.to_owned()))
    }

    /// Generates a name from a prefix and an ID.
    #[must_use]
    pub fn generate(prefix: &str, id: &Id) -> Self {
        Self(format!("{prefix}-{id}"))
    }

    /// The name as a string.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as a label value, truncated if it is too long.
    #[must_use]
    pub fn label_value(&self) -> String {
        let prefix = &self.0[..self.0.len().min(MAX_LABEL_LENGTH)];
        prefix
            .trim_end_matches(|last: char| !last.is_ascii_alphanumeric())
            .to_owned()
    }

    /// The name followed by `suffix`, as an RFC 1123 label of at most 63 characters.
    #[must_use]
    pub fn object_name(&self, suffix: &str) -> String {
        let max_len = MAX_LABEL_LENGTH.saturating_sub(suffix.len() + 1);
        let label: String = self
            .0
            .chars()
            .map(|character| match character.to_ascii_lowercase() {
                valid @ ('a'..='z' | '0'..='9') => valid,
                _ => '-',
            })
            .take(max_len)
            .collect();
        format!("{}-{suffix}", label.trim_matches('-'))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

fn is_valid(name: &str) -> bool {
    let ends = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    name.len() <= MAX_LENGTH
        && ends(name.bytes().next())
        && ends(name.bytes().last())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::{MAX_LABEL_LENGTH, Name};
    use crate::validation;

    fn name(text: &str) -> Name {
        validation::validate(&json!(text), "body", Name::from_value).unwrap()
    }

    #[test]
    fn a_name_that_is_no_rfc_1123_label_is_made_into_one() {
        assert_eq!(name("My_Task").object_name("abc"), "my-task-abc");
        assert_eq!(name("train").object_name("abc"), "train-abc");
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for text in ["", "-a", "a-", "a b", "é", &"a".repeat(254)] {
            assert!(
                validation::validate(&json!(text), "body", Name::from_value).is_err(),
                "{text:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn every_name_gives_a_valid_object_name_and_label(text in "[A-Za-z0-9]([A-Za-z0-9._-]{0,250}[A-Za-z0-9])?") {
            let name = name(&text);
            let object = name.object_name("01234567-node-999");
            prop_assert!(object.len() <= MAX_LABEL_LENGTH);
            prop_assert!(object.starts_with(|first: char| first.is_ascii_alphanumeric()));
            prop_assert!(object.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'));
            let label = name.label_value();
            prop_assert!(label.len() <= MAX_LABEL_LENGTH && !label.is_empty());
            prop_assert!(label.ends_with(|last: char| last.is_ascii_alphanumeric()));
        }
    }
}
