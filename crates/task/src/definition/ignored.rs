//! Checks the format of keys without effect, so that a mistake in one is found here, too.

use serde_json::Value;

use crate::validation::{Fields, Validator, coerce};

#[expect(clippy::unnecessary_wraps, reason = "all checks have the same type")]
pub(super) fn anything(_: &Value, _: &mut Validator) -> Option<bool> {
    Some(true)
}

/// Whether the value of a switch is off.
pub(super) fn is_off(value: &Value) -> bool {
    matches!(value, Value::Null | Value::Bool(false))
}

/// Whether the value of an object with a switch is off.
pub(super) fn is_disabled(value: &Value) -> bool {
    let has_switch_only = value.as_object().is_some_and(|fields| fields.len() == 1);
    value.is_null() || has_switch_only && value["enabled"] == false
}

/// Whether a list is empty.
pub(super) fn is_empty(value: &Value) -> bool {
    value.is_null() || value.as_array().is_some_and(Vec::is_empty)
}

/// A boolean; false asks for nothing.
pub(super) fn flag(value: &Value, validator: &mut Validator) -> Option<bool> {
    coerce::boolean(value, validator)
}

pub(super) fn text(value: &Value, validator: &mut Validator) -> Option<bool> {
    coerce::string(value, validator).map(|_| true)
}

pub(super) fn object(value: &Value, validator: &mut Validator) -> Option<bool> {
    match value {
        Value::Object(_) => Some(true),
        _ => validator.push_error("dict_type", "Input should be a valid dictionary", value),
    }
}

pub(super) fn disk_tier(value: &Value, validator: &mut Validator) -> Option<bool> {
    word(value, validator, &["low", "medium", "high", "ultra", "best", "none"])
}

pub(super) fn network_tier(value: &Value, validator: &mut Validator) -> Option<bool> {
    word(value, validator, &["standard", "best"])
}

/// One of several words, in any case.
pub(super) fn word(value: &Value, validator: &mut Validator, known: &[&str]) -> Option<bool> {
    let text = coerce::string(value, validator)?;
    if known.iter().any(|word| text.eq_ignore_ascii_case(word)) {
        return Some(true);
    }
    let known = known.join(", ");
    validator.value_error(format!("unknown value `{text}`; expected one of {known}"), value)
}

pub(super) fn positive_number(value: &Value, validator: &mut Validator) -> Option<bool> {
    match value.as_f64() {
        Some(number) if number > 0.0 => Some(true),
        _ => validator.value_error("must be a number greater than 0", value),
    }
}

pub(super) fn priority(value: &Value, validator: &mut Validator) -> Option<bool> {
    match coerce::integer(value, validator)? {
        0 => Some(false),
        -1000..=1000 => Some(true),
        _ => validator.value_error("must be from -1000 to 1000", value),
    }
}

/// `true`, minutes, a time such as `10h`, or an object.
pub(super) fn autostop(value: &Value, validator: &mut Validator) -> Option<bool> {
    match value {
        Value::Bool(is_on) => Some(*is_on),
        Value::Object(_) => {
            let mut fields = Fields::from_value(value, validator)?;
            fields.optional("idle_minutes", coerce::integer);
            fields.optional("down", coerce::boolean);
            fields.optional("wait_for", wait_for);
            fields.optional("hook", coerce::string);
            fields.optional("hook_timeout", coerce::integer);
            fields.deny_unknown_fields(|_| None);
            Some(true)
        }
        _ => {
            let text = coerce::string_or_number(value, validator)?;
            let digits = text.strip_suffix(['m', 'h', 'd', 'w']).unwrap_or(&text);
            if digits.parse::<u32>().is_ok() {
                return Some(true);
            }
            validator.value_error(
                format!("invalid time `{text}`; expected, e.g., `true`, `10` (minutes), or `10h`"),
                value,
            )
        }
    }
}

fn wait_for(value: &Value, validator: &mut Validator) -> Option<bool> {
    word(value, validator, &["jobs_and_ssh", "jobs", "none"])
}
