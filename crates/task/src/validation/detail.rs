//! One validation error, as FastAPI writes it in the `detail` list of a 422.

use serde::Serialize;
use serde_json::{Value, json};

/// A step on the way to the value an error is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Location {
    /// A key of an object, or where the value came from (`body`, `query`, `header`, `path`).
    Key(String),
    /// An index of a list, or a character offset in a body that is not JSON.
    Index(usize),
}

/// One error of a request.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ErrorDetail {
    /// Pydantic's name of the error, such as `missing` or `string_type`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Where the value is, from the outside in.
    pub loc: Vec<Location>,
    /// What is wrong, for a person.
    pub msg: String,
    /// The value as it was sent; its parent when it is missing.
    pub input: Value,
    /// The bounds the value broke, for the errors that have any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ctx: Option<Value>,
}

impl ErrorDetail {
    /// An error without bounds at `root` followed by `keys`.
    pub fn new(
        kind: &'static str,
        loc: impl IntoIterator<Item = Location>,
        msg: impl Into<String>,
        input: Value,
    ) -> Self {
        Self {
            kind,
            loc: loc.into_iter().collect(),
            msg: msg.into(),
            input,
            ctx: None,
        }
    }

    /// A value of the right type that is refused, and why (Pydantic's `value_error`).
    pub fn refused(loc: impl IntoIterator<Item = Location>, reason: impl Into<String>, input: Value) -> Self {
        let reason = reason.into();
        Self {
            ctx: Some(json!({ "error": reason })),
            ..Self::new("value_error", loc, format!("Value error, {reason}"), input)
        }
    }
}

impl From<&str> for Location {
    fn from(key: &str) -> Self {
        Self::Key(key.to_owned())
    }
}

impl From<usize> for Location {
    fn from(index: usize) -> Self {
        Self::Index(index)
    }
}
