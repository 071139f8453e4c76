//! Parses `envs`, the environment variables of a task.

use serde_json::Value;

use super::scripts::deny_nul;
use crate::validation::{Validator, coerce};

/// The maximum size of all environment variables together, in bytes; see [`super::MAX_SCRIPT_BYTES`].
pub const MAX_VARIABLES_BYTES: usize = 1_000_000;

/// The maximum number of environment variables. With more, a shell takes seconds to start.
pub(super) const MAX_VARIABLES: usize = 10_000;

/// The maximum length of a variable name: it may become a key of a ConfigMap.
pub(super) const MAX_VARIABLE_NAME_BYTES: usize = 253;

/// The pattern of a variable name, for the OpenAPI document; `is_variable_name` implements the rule.
pub(super) const VARIABLE_NAME_PATTERN: &str = "^[A-Za-z_][A-Za-z0-9_]*$";

/// The maximum length of a variable's value: with the name and `=`, it must fit into
/// [`super::MAX_ARGUMENT_BYTES`].
pub(super) const MAX_VARIABLE_BYTES: usize = 130_000;

pub(super) fn parse_envs(value: &Value, validator: &mut Validator) -> Option<Vec<(String, String)>> {
    coerce::map(value, validator, MAX_VARIABLES, |name, value, validator| {
        parse_variable(name, value, value, validator)
    })
}

/// Parses a variable. Errors show `shown` instead of the value, which may be a secret.
pub(super) fn parse_variable(
    name: &str,
    value: &Value,
    shown: &Value,
    validator: &mut Validator,
) -> Option<(String, String)> {
    let text = match value {
        // SkyPilot converts values with Python's `str`, which capitalizes booleans.
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        _ => return validator.push_error("string_type", "Input should be a valid string", shown),
    };
    if !is_variable_name(name) {
        return validator.value_error(
            format!(
                "invalid environment variable name `{name}`; use letters, digits, and `_`, and don't start with a digit"
            ),
            shown,
        );
    }
    if name.len() > MAX_VARIABLE_NAME_BYTES || text.len() > MAX_VARIABLE_BYTES {
        return validator.value_error(
            format!(
                "a value must be at most {MAX_VARIABLE_BYTES} bytes, and a name at most {MAX_VARIABLE_NAME_BYTES}; \
                 store the data in a volume"
            ),
            shown,
        );
    }
    Some((name.to_owned(), deny_nul(shown, validator, text)?))
}

/// Whether `executor` sets this variable on each node.
#[must_use]
pub fn is_reserved_variable(name: &str) -> bool {
    const RESERVED: [&str; 10] = [
        "NODE_RANK",
        "NUM_NODES",
        "SKYPILOT_NODE_IPS",
        "SKYPILOT_NODE_RANK",
        "SKYPILOT_NUM_GPUS_PER_NODE",
        "SKYPILOT_NUM_NODES",
        "SKYPILOT_SETUP_NODE_IPS",
        "SKYPILOT_SETUP_NODE_RANK",
        "SKYPILOT_SETUP_NUM_GPUS_PER_NODE",
        "SKYPILOT_TASK_ID",
    ];
    RESERVED.contains(&name)
}

fn is_variable_name(name: &str) -> bool {
    !name.starts_with(|first: char| first.is_ascii_digit())
        && !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// The size of all variables together, including their names, in bytes.
pub(super) fn total_bytes(envs: &[(String, String)]) -> usize {
    envs.iter().map(|(name, text)| name.len() + text.len()).sum()
}

/// Checks the size of all variables, including secret ones, which are `bytes` in all.
pub(super) fn check_total_bytes(bytes: usize, body: &Value, validator: &mut Validator) -> Option<()> {
    if bytes <= MAX_VARIABLES_BYTES {
        return Some(());
    }
    let key = if body["envs"].is_null() { "secrets" } else { "envs" };
    validator.within(key, |validator| {
        validator.value_error(
            format!(
                "environment variables exceed the limit of {MAX_VARIABLES_BYTES} bytes ({bytes} bytes); store the \
                 data in a volume"
            ),
            &body[key],
        )
    })
}
