//! Converts untyped JSON to typed values and reports all errors together, in the format and wording of Pydantic 2.
//!
//! A parser is a function from a [`Value`] and a [`Cursor`] to an `Option`. If it returns `None`, it has reported the
//! reason to the cursor.

mod cursor;
mod detail;
mod excerpt;
mod lax;
mod object;

pub use cursor::{Cursor, MAX_ERRORS, Mark};
pub use detail::{ErrorDetail, Location};
pub use lax::{boolean, boolean_text, integer, string, text_or_number};
pub use object::{Object, list, map};

use serde_json::Value;

/// Runs a parser on `input`. On failure, returns every error that it reported, in the order of declaration of the
/// fields. Their locations start with `root`, e.g., `body`.
pub fn parse<T>(
    input: &Value,
    root: &'static str,
    parser: impl FnOnce(&Value, &mut Cursor) -> Option<T>,
) -> Result<T, Vec<ErrorDetail>> {
    let mut cursor = Cursor::at(root);
    let parsed = parser(input, &mut cursor);
    match (parsed, cursor.into_errors()) {
        (Some(parsed), errors) if errors.is_empty() => Ok(parsed),
        (_, errors) => Err(errors),
    }
}

#[cfg(test)]
mod tests;
