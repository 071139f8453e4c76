//! A validation error, as in the `detail` list of FastAPI's 422 responses.

use std::fmt;

use serde::Serialize;
use serde_json::{Value, json};

/// An item of `loc`, the path to the value that an error is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum LocItem {
    /// A key of an object, or the part of the request (`body`, `query`, `header`, `path`).
    Key(String),
    /// An index of a list, or a character offset in a body that is not valid JSON.
    Index(usize),
}

/// A validation error.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ErrorDetail {
    /// Pydantic's type of the error, such as `missing` or `string_type`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The path to the value, from the outside in.
    pub loc: Vec<LocItem>,
    /// The human-readable message.
    pub msg: String,
    /// The value that was sent, or its parent if the value is missing.
    pub input: Value,
    /// Context of the error, such as the bound that the value violates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ctx: Option<Value>,
}

impl ErrorDetail {
    /// Creates an error without a context.
    pub fn new(
        kind: &'static str,
        loc: impl IntoIterator<Item = LocItem>,
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

    /// Creates an error for a value of the right type that is invalid (Pydantic's `value_error`).
    pub fn value_error(loc: impl IntoIterator<Item = LocItem>, reason: impl Into<String>, input: Value) -> Self {
        let reason = reason.into();
        Self {
            ctx: Some(json!({ "error": reason })),
            ..Self::new("value_error", loc, format!("Value error, {reason}"), input)
        }
    }
}

impl fmt::Display for LocItem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(key) => formatter.write_str(key),
            Self::Index(index) => index.fmt(formatter),
        }
    }
}

impl From<&str> for LocItem {
    fn from(key: &str) -> Self {
        Self::Key(key.to_owned())
    }
}

impl From<usize> for LocItem {
    fn from(index: usize) -> Self {
        Self::Index(index)
    }
}
