//! The name of a user.

use std::fmt;

use serde::Serialize;
use serde_json::{Value, json};

use crate::validation::{ErrorDetail, LocItem};

/// The maximum length of a user name, in bytes. An email address has at most 254.
pub const MAX_BYTES: usize = 256;

/// A user name: not empty, at most [`MAX_BYTES`] bytes, without control characters. It is always compared exactly.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct UserName(String);

/// Why a text is not a user name. Formatted as Pydantic words it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvalidUserName {
    /// It has no characters.
    Empty,
    /// It has more than [`MAX_BYTES`] bytes.
    TooLong,
    /// It contains a control character.
    ControlCharacter,
}

impl UserName {
    /// Checks a user name.
    pub fn parse(name: &str) -> Result<Self, InvalidUserName> {
        Self::from_bytes(name.as_bytes())
    }

    /// Checks a user name whose encoding is unknown: UTF-8 if that is valid, otherwise Latin-1.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidUserName> {
        let name = decode(bytes);
        if name.is_empty() {
            return Err(InvalidUserName::Empty);
        }
        if bytes.len() > MAX_BYTES {
            return Err(InvalidUserName::TooLong);
        }
        if name.chars().any(char::is_control) {
            return Err(InvalidUserName::ControlCharacter);
        }
        Ok(Self(name))
    }

    /// The name as a string.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Decodes UTF-8 if that is valid, otherwise Latin-1.
#[must_use]
pub fn decode(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().map(|byte| char::from(*byte)).collect(),
    }
}

impl InvalidUserName {
    /// The validation error for the value `input` at `loc`.
    #[must_use]
    pub fn detail(self, loc: impl IntoIterator<Item = LocItem>, input: Value) -> ErrorDetail {
        match self {
            Self::Empty => ErrorDetail {
                ctx: Some(json!({ "min_length": 1 })),
                ..ErrorDetail::new(
                    "string_too_short",
                    loc,
                    "String should have at least 1 character",
                    input,
                )
            },
            Self::TooLong => {
                let reason = format!("a user name must be at most {MAX_BYTES} bytes");
                ErrorDetail::value_error(loc, reason, input)
            }
            Self::ControlCharacter => {
                ErrorDetail::value_error(loc, "a user name must not contain control characters", input)
            }
        }
    }
}

impl fmt::Display for InvalidUserName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.detail([], Value::Null).msg)
    }
}

#[cfg(test)]
mod tests {
    use super::{InvalidUserName, UserName};

    #[test]
    fn a_name_is_kept_exactly() {
        for name in ["a@b", "x,y", "x=y", "a b", "日本", "'; drop", &"a".repeat(256)] {
            assert_eq!(UserName::parse(name).unwrap().as_str(), name);
        }
    }

    #[test]
    fn bytes_that_are_not_utf8_are_latin_1() {
        assert_eq!(UserName::from_bytes(b"caf\xe9").unwrap().as_str(), "café");
    }

    #[test]
    fn an_invalid_name_is_refused_in_pydantics_words() {
        for (name, error, message) in [
            ("", InvalidUserName::Empty, "String should have at least 1 character"),
            (
                &"a".repeat(257),
                InvalidUserName::TooLong,
                "Value error, a user name must be at most 256 bytes",
            ),
            (
                "a\tb",
                InvalidUserName::ControlCharacter,
                "Value error, a user name must not contain control characters",
            ),
        ] {
            assert_eq!(UserName::parse(name), Err(error));
            assert_eq!(error.to_string(), message);
        }
    }
}
