//! Coerces JSON values to types, with the rules and the errors of Pydantic's lax mode.
//!
//! Source: <https://docs.pydantic.dev/latest/concepts/conversion_table/>.

use serde_json::{Number, Value, json};

use super::error_detail::LocItem;
use super::validator::Validator;

/// Parses a string. Other types are not converted.
pub fn string(value: &Value, validator: &mut Validator) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        _ => validator.push_error("string_type", "Input should be a valid string", value),
    }
}

/// Parses a string or a number, which becomes a string: `4` is `"4"`, as in SkyPilot's task files.
pub fn string_or_number(value: &Value, validator: &mut Validator) -> Option<String> {
    match value {
        Value::Number(number) => Some(number.to_string()),
        _ => string(value, validator),
    }
}

/// Parses an integer. Strings, whole floats, and booleans are converted; a number outside `i64` saturates.
pub fn integer(value: &Value, validator: &mut Validator) -> Option<i64> {
    match value {
        Value::Bool(flag) => Some(i64::from(*flag)),
        Value::Number(number) => match as_integer(number) {
            Some(integer) => Some(integer),
            None => validator.push_error(
                "int_from_float",
                "Input should be a valid integer, got a number with a fractional part",
                value,
            ),
        },
        Value::String(text) => match parse_integer(text) {
            Some(integer) => Some(integer),
            None => validator.push_error(
                "int_parsing",
                "Input should be a valid integer, unable to parse string as an integer",
                value,
            ),
        },
        _ => validator.push_error("int_type", "Input should be a valid integer", value),
    }
}

/// Parses a boolean. `0`, `1`, and the words of [`parse_boolean`] are converted.
pub fn boolean(value: &Value, validator: &mut Validator) -> Option<bool> {
    let parsed = match value {
        Value::Bool(flag) => return Some(*flag),
        Value::String(text) => parse_boolean(text),
        Value::Number(number) => match as_integer(number) {
            Some(0) => Some(false),
            Some(1) => Some(true),
            Some(_) => None,
            None => return validator.push_error("bool_type", "Input should be a valid boolean", value),
        },
        _ => return validator.push_error("bool_type", "Input should be a valid boolean", value),
    };
    match parsed {
        Some(flag) => Some(flag),
        None => validator.push_error(
            "bool_parsing",
            "Input should be a valid boolean, unable to interpret input",
            value,
        ),
    }
}

/// Parses a boolean from a word, ignoring case, as in a query parameter.
#[must_use]
pub fn parse_boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "on" | "t" | "true" | "y" | "yes" => Some(true),
        "0" | "off" | "f" | "false" | "n" | "no" => Some(false),
        _ => None,
    }
}

/// Parses a map with arbitrary keys and at most `max_len` values, in the order of the input.
pub fn map<T>(
    value: &Value,
    validator: &mut Validator,
    max_len: usize,
    mut parser: impl FnMut(&str, &Value, &mut Validator) -> Option<T>,
) -> Option<Vec<T>> {
    let Value::Object(fields) = value else {
        return validator.push_error("dict_type", "Input should be a valid dictionary", value);
    };
    check_len("Dictionary", fields.len(), max_len, value, validator)?;
    collect_all(
        fields
            .iter()
            .map(|(key, value)| validator.within(key.as_str(), |validator| parser(key, value, validator))),
    )
}

/// Parses a list of at most `max_len` values.
pub fn list<T>(
    value: &Value,
    validator: &mut Validator,
    max_len: usize,
    mut parser: impl FnMut(&Value, &mut Validator) -> Option<T>,
) -> Option<Vec<T>> {
    let Value::Array(items) = value else {
        return validator.push_error("list_type", "Input should be a valid list", value);
    };
    check_len("List", items.len(), max_len, value, validator)?;
    collect_all(
        items
            .iter()
            .enumerate()
            .map(|(index, item)| validator.within(LocItem::Index(index), |validator| parser(item, validator))),
    )
}

/// Checks the number of items before the items are parsed, because there may be a million invalid ones.
fn check_len(field_type: &str, count: usize, max_len: usize, value: &Value, validator: &mut Validator) -> Option<()> {
    if count <= max_len {
        return Some(());
    }
    validator.push_error_with_context(
        "too_long",
        format!("{field_type} should have at most {max_len} items after validation, not {count}"),
        value,
        json!({"field_type": field_type, "max_length": max_len, "actual_length": count}),
    )
}

/// Runs all parsers before checking for `None`: collecting directly into an `Option` would stop at the first error.
fn collect_all<T>(parsed: impl Iterator<Item = Option<T>>) -> Option<Vec<T>> {
    let all: Vec<Option<T>> = parsed.collect();
    all.into_iter().collect()
}

fn as_integer(number: &Number) -> Option<i64> {
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
fn parse_integer(text: &str) -> Option<i64> {
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
