//! Field validation: what to do about fields that the API types don't know.

use serde_json::Value;

use super::query::{META, Query};
use super::unknown_fields::unknown_fields;
use crate::field_errors::FieldErrors;
use crate::object::Kind;
use crate::status_error::StatusError;

/// What to do about unknown fields (`fieldValidation`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FieldValidation {
    Ignore,
    Warn,
    Strict,
}

impl FieldValidation {
    pub(crate) fn from_query(query: &Query, options: &str) -> Result<Self, StatusError> {
        match query.get("fieldValidation") {
            None | Some("Warn") => Ok(Self::Warn),
            Some("Ignore") => Ok(Self::Ignore),
            Some("Strict") => Ok(Self::Strict),
            Some(other) => {
                let mut errors = FieldErrors::default();
                errors.unsupported("fieldValidation", other, &["Ignore", "Strict", "Warn"]);
                Err(StatusError::invalid_option(options, META, &errors))
            }
        }
    }

    /// Returns warnings about unknown fields; fails if validation is strict.
    pub(crate) fn check(self, kind: Kind, sent: &Value, known: &Value) -> Result<Vec<String>, StatusError> {
        let mut unknown = Vec::new();
        if self != Self::Ignore {
            unknown = unknown_fields(sent, known)
                .into_iter()
                .map(|field| format!("unknown field \"{field}\""))
                .collect();
        }
        if self == Self::Strict && !unknown.is_empty() {
            return Err(StatusError::undecodable(
                kind,
                &format!("strict decoding error: {}", unknown.join(", ")),
            ));
        }
        Ok(unknown)
    }
}
