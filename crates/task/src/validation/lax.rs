//! Pydantic's lax conversions of single values.
//!
//! Source: <https://docs.pydantic.dev/latest/concepts/conversion_table/>.

use serde_json::{Number, Value};

use super::Cursor;

/// Parses a string. Other types are not converted.
pub fn string(value: &Value, cursor: &mut Cursor) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        _ => cursor.report("string_type", "Input should be a valid string", value),
    }
}

/// Parses a string or a number, which becomes a string: `4` is `"4"`, as in SkyPilot's task files.
pub fn text_or_number(value: &Value, cursor: &mut Cursor) -> Option<String> {
    match value {
        Value::Number(number) => Some(number.to_string()),
        _ => string(value, cursor),
    }
}

/// Parses an integer. Strings, whole floats, and booleans are converted; a number outside `i64` saturates.
pub fn integer(value: &Value, cursor: &mut Cursor) -> Option<i64> {
    match value {
        Value::Bool(flag) => Some(i64::from(*flag)),
        Value::Number(number) => match whole(number) {
            Some(whole) => Some(whole),
            None => cursor.report(
                "int_from_float",
                "Input should be a valid integer, got a number with a fractional part",
                value,
            ),
        },
        Value::String(text) => match integer_text(text) {
            Some(whole) => Some(whole),
            None => cursor.report(
                "int_parsing",
                "Input should be a valid integer, unable to parse string as an integer",
                value,
            ),
        },
        _ => cursor.report("int_type", "Input should be a valid integer", value),
    }
}

/// Parses a boolean. `0`, `1`, and the words of [`boolean_text`] are converted.
pub fn boolean(value: &Value, cursor: &mut Cursor) -> Option<bool> {
    let parsed = match value {
        Value::Bool(flag) => return Some(*flag),
        Value::String(text) => boolean_text(text),
        Value::Number(number) => match whole(number) {
            Some(0) => Some(false),
            Some(1) => Some(true),
            Some(_) => None,
            None => return cursor.report("bool_type", "Input should be a valid boolean", value),
        },
        _ => return cursor.report("bool_type", "Input should be a valid boolean", value),
    };
    match parsed {
        Some(flag) => Some(flag),
        None => cursor.report(
            "bool_parsing",
            "Input should be a valid boolean, unable to interpret input",
            value,
        ),
    }
}

/// Parses a boolean from a word, ignoring case, as in a query parameter.
#[must_use]
pub fn boolean_text(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "on" | "t" | "true" | "y" | "yes" => Some(true),
        "0" | "off" | "f" | "false" | "n" | "no" => Some(false),
        _ => None,
    }
}

fn whole(number: &Number) -> Option<i64> {
    if let Some(whole) = number.as_i64() {
        return Some(whole);
    }
    if number.is_u64() {
        return Some(i64::MAX);
    }
    let float = number.as_f64()?;
    #[expect(clippy::cast_possible_truncation, reason = "`as` saturates, as intended")]
    (float.fract() == 0.0).then_some(float as i64)
}

/// Parses an integer as Pydantic does: it accepts surrounding spaces, a sign, single underscores between digits, and a
/// fraction of zeros.
fn integer_text(text: &str) -> Option<i64> {
    let text = text.trim();
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let digits = match digits.split_once('.') {
        Some((whole, zeros)) if !zeros.is_empty() && zeros.bytes().all(|byte| byte == b'0') => whole,
        Some(_) => return None,
        None => digits,
    };
    let groups: Vec<&str> = digits.split('_').collect();
    if groups
        .iter()
        .any(|group| group.is_empty() || !group.bytes().all(|byte| byte.is_ascii_digit()))
    {
        return None;
    }
    let magnitude = groups.concat().parse::<i64>().unwrap_or(i64::MAX);
    Some(if negative { -magnitude } else { magnitude })
}
