//! Shortens large values for error messages, so that responses stay small.

use serde_json::{Map, Value};

/// How much of a value is shown, in bytes of text.
const MAX_VALUE_BYTES: usize = 1000;

/// What each nested value costs in addition to its text, so that many empty values are cut off too.
const VALUE_OVERHEAD_BYTES: usize = 8;

/// The maximum length of a key in the path of an error, in bytes.
pub(super) const MAX_KEY_BYTES: usize = 256;

/// Stands for what was cut off.
const ELLIPSIS: &str = "…";

/// A value shortened to about [`MAX_VALUE_BYTES`] bytes.
pub(super) fn truncate_value(value: &Value) -> Value {
    truncate_to(value, &mut MAX_VALUE_BYTES.clone())
}

fn truncate_to(value: &Value, budget: &mut usize) -> Value {
    *budget = budget.saturating_sub(VALUE_OVERHEAD_BYTES);
    match value {
        Value::String(text) => {
            let shown = truncate_str(text, *budget);
            *budget = budget.saturating_sub(shown.len());
            Value::String(shown)
        }
        Value::Array(items) => {
            let mut shown = Vec::new();
            for item in items {
                if *budget == 0 {
                    shown.push(ELLIPSIS.into());
                    break;
                }
                shown.push(truncate_to(item, budget));
            }
            Value::Array(shown)
        }
        Value::Object(fields) => {
            let mut shown = Map::new();
            for (key, value) in fields {
                if *budget == 0 {
                    shown.insert(ELLIPSIS.to_owned(), ELLIPSIS.into());
                    break;
                }
                let key = truncate_str(key, MAX_KEY_BYTES.min(*budget));
                *budget = budget.saturating_sub(key.len());
                shown.insert(key, truncate_to(value, budget));
            }
            Value::Object(shown)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

/// A text shortened to at most `max_bytes` bytes, at a character boundary and with an ellipsis.
pub(super) fn truncate_str(text: &str, max_bytes: usize) -> String {
    if text.len() <= max_bytes {
        return text.to_owned();
    }
    format!("{}{ELLIPSIS}", &text[..text.floor_char_boundary(max_bytes)])
}
