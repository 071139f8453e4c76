//! Turns untyped JSON into typed values and reports every error at once, in the shape and words of Pydantic 2.
//!
//! A parser is a function from a [`Value`] and a [`Cursor`] to an `Option`: `None` means that the cursor holds the reason.

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

/// Runs a parser over `input`, whose errors are located below `root` (`body`, for a request body).
///
/// # Errors
/// Every error that the parser reported, in its order of declaration.
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
