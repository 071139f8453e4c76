//! The name of a user, from the `X-User` header.

use std::fmt;

use serde::Serialize;
use serde_json::{Value, json};

use crate::validation::{ErrorDetail, Location};

/// The maximum length of a user name, in bytes. An email address has at most 254.
pub const MAX_BYTES: usize = 256;

/// A user name: not empty, at most [`MAX_BYTES`] bytes, without control characters. It is always compared exactly.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct UserName(String);

impl UserName {
    /// Reads the values of all `X-User` headers of a request. The bytes are UTF-8 if that is valid, otherwise Latin-1.
    ///
    /// # Errors
    /// The header is missing, empty, too long, contains control characters, or occurs several times, in which case a
    /// proxy and this server could read different users.
    pub fn from_headers<'h>(values: impl IntoIterator<Item = &'h [u8]>) -> Result<Self, Box<ErrorDetail>> {
        let mut values = values.into_iter();
        let Some(bytes) = values.next() else {
            return Err(error("missing", "Field required", Value::Null));
        };
        let name = match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => bytes.iter().map(|byte| char::from(*byte)).collect(),
        };
        if values.next().is_some() {
            return Err(refused("expected a single X-User header", name));
        }
        if name.is_empty() {
            let mut detail = error(
                "string_too_short",
                "String should have at least 1 character",
                json!(name),
            );
            detail.ctx = Some(json!({ "min_length": 1 }));
            return Err(detail);
        }
        if bytes.len() > MAX_BYTES {
            return Err(refused(&format!("a user name must be at most {MAX_BYTES} bytes"), name));
        }
        if name.chars().any(char::is_control) {
            return Err(refused("a user name must not contain control characters", name));
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

fn refused(reason: &str, name: String) -> Box<ErrorDetail> {
    Box::new(ErrorDetail::refused(header(), reason, json!(name)))
}

fn error(kind: &'static str, msg: &str, input: Value) -> Box<ErrorDetail> {
    Box::new(ErrorDetail::new(kind, header(), msg, input))
}

fn header() -> [Location; 2] {
    ["header", "x-user"].map(Location::from)
}

#[cfg(test)]
mod tests {
    use super::UserName;

    fn kind(values: &[&[u8]]) -> &'static str {
        UserName::from_headers(values.iter().copied()).map_or_else(|detail| detail.kind, |_| "ok")
    }

    #[test]
    fn a_header_is_one_exact_name() {
        for name in ["a@b", "x,y", "x=y", "a b", "日本", "'; drop"] {
            assert_eq!(UserName::from_headers([name.as_bytes()]).unwrap().as_str(), name);
        }
    }

    #[test]
    fn bytes_that_are_not_utf8_are_latin_1() {
        assert_eq!(UserName::from_headers([&b"caf\xe9"[..]]).unwrap().as_str(), "café");
    }

    #[test]
    fn what_names_nobody_is_refused() {
        assert_eq!(kind(&[]), "missing");
        assert_eq!(kind(&[b""]), "string_too_short");
        assert_eq!(kind(&[&[b'a'; 257]]), "value_error");
        assert_eq!(kind(&[b"a\tb"]), "value_error");
        assert_eq!(kind(&[b"a", b"b"]), "value_error");
        assert_eq!(kind(&[&[b'a'; 256]]), "ok");
    }
}
