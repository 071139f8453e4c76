//! Names that people give to tasks and volumes, and the Kubernetes names made from them.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

use crate::validation::{self, Cursor};

/// The longest name that is taken. Kubernetes gets a shorter one where it must.
pub const MAX_LENGTH: usize = 253;

/// The longest label value, and the longest name of a Job whose pods shall be found by it.
/// Source: <https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set>.
pub const MAX_LABEL_LENGTH: usize = 63;

/// What a name looks like, for the OpenAPI document; the rule itself is [`Name::parse`].
pub const PATTERN: &str = "^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$";

/// A valid name: ASCII letters, digits, `.`, `_` and `-`, with a letter or digit at both ends.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Name(String);

impl Name {
    /// Reads a name from JSON.
    pub fn parse(value: &Value, cursor: &mut Cursor) -> Option<Self> {
        let name = validation::string(value, cursor)?;
        if is_valid(&name) {
            return Some(Self(name));
        }
        cursor.refuse(
            format!(
                "a name has 1 to {MAX_LENGTH} ASCII letters, digits, `.`, `_` or `-`, and starts and ends with a letter or digit"
            ),
            value,
        )
    }

    /// A name that was taken before, such as one in an annotation.
    #[must_use]
    pub fn of(text: &str) -> Option<Self> {
        is_valid(text).then(|| Self(text.to_owned()))
    }

    /// A name that this program made.
    #[must_use]
    pub fn generated(prefix: &str, id: &crate::Id) -> Self {
        Self(format!("{prefix}-{id}"))
    }

    /// The name as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as a label value: itself, cut where it is too long.
    #[must_use]
    pub fn label_value(&self) -> String {
        let cut = &self.0[..self.0.len().min(MAX_LABEL_LENGTH)];
        cut.trim_end_matches(|last: char| !last.is_ascii_alphanumeric())
            .to_owned()
    }

    /// The name followed by `suffix`, as an RFC 1123 label of at most 63 characters.
    #[must_use]
    pub fn object_name(&self, suffix: &str) -> String {
        let room = MAX_LABEL_LENGTH.saturating_sub(suffix.len() + 1);
        let label: String = self
            .0
            .chars()
            .map(|character| match character.to_ascii_lowercase() {
                kept @ ('a'..='z' | '0'..='9') => kept,
                _ => '-',
            })
            .take(room)
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
        validation::parse(&json!(text), "body", Name::parse).unwrap()
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
                validation::parse(&json!(text), "body", Name::parse).is_err(),
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
