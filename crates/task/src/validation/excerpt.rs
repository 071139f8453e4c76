//! Shortens large values for error messages, so that responses stay small.

use serde_json::{Map, Value};

/// How much of a value is shown, in bytes of text.
const ROOM: usize = 1000;

/// What each nested value costs in addition to its text, so that many empty values are cut off too.
const COST: usize = 8;

/// The maximum length of a key in the path of an error, in bytes.
pub(super) const MAX_KEY: usize = 256;

/// Stands for what was cut off.
const REST: &str = "…";

/// A value shortened to about [`ROOM`] bytes.
pub(super) fn excerpt(value: &Value) -> Value {
    cut(value, &mut ROOM.clone())
}

fn cut(value: &Value, room: &mut usize) -> Value {
    *room = room.saturating_sub(COST);
    match value {
        Value::String(text) => {
            let shown = beginning(text, *room);
            *room = room.saturating_sub(shown.len());
            Value::String(shown)
        }
        Value::Array(items) => {
            let mut shown = Vec::new();
            for item in items {
                if *room == 0 {
                    shown.push(REST.into());
                    break;
                }
                shown.push(cut(item, room));
            }
            Value::Array(shown)
        }
        Value::Object(fields) => {
            let mut shown = Map::new();
            for (key, value) in fields {
                if *room == 0 {
                    shown.insert(REST.to_owned(), REST.into());
                    break;
                }
                let key = beginning(key, MAX_KEY.min(*room));
                *room = room.saturating_sub(key.len());
                shown.insert(key, cut(value, room));
            }
            Value::Object(shown)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

/// A text shortened to at most `most` bytes, at a character boundary and with an ellipsis.
pub(super) fn beginning(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    format!("{}{REST}", &text[..text.floor_char_boundary(most)])
}
