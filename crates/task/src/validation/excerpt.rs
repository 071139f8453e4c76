//! What an error shows of a value: all of a small one, the beginning of a large one.

use serde_json::{Map, Value};

/// How much of a value is shown, in bytes of text; each value costs some.
const ROOM: usize = 1000;
const COST: usize = 8;

/// The most bytes of a key on the way to a value.
pub(super) const MAX_KEY: usize = 256;

/// What stands for the rest.
const REST: &str = "…";

/// The beginning of a value.
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

/// The whole of a short text; of a long one so many bytes, and a sign that there is more.
pub(super) fn beginning(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    format!("{}{REST}", &text[..text.floor_char_boundary(most)])
}
