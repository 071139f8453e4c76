//! SkyPilot's `job_recovery`: when a failed task is retried.

use serde::Serialize;
use serde_json::Value;

use super::keys::JOB_RECOVERY;
use crate::validation::{Fields, Validator, coerce};

/// SkyPilot's strategies. They differ in the order in which regions are tried, so on one cluster they are equivalent.
const STRATEGIES: [&str; 2] = ["FAILOVER", "EAGER_NEXT_REGION"];

/// The maximum of `max_restarts_on_errors`.
pub const MAX_RESTARTS: u32 = 1000;

/// The maximum number of exit codes: no more exist.
const MAX_EXIT_CODES: usize = 256;

/// When a failed task is retried. A task that the cluster interrupted (eviction, preemption, or a lost cluster node) is
/// always retried.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Recovery {
    /// The number of retries after failures of the task itself.
    pub max_restarts_on_errors: u32,
    /// Exit codes after which the task is retried without counting toward that number.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub recover_on_exit_codes: Vec<u8>,
}

/// Parses a strategy or an object. `None` disables recovery: the strategy is `none`, or an error was reported.
///
/// Source: <https://docs.skypilot.co/en/latest/reference/yaml-spec.html#resources-job-recovery>.
pub(super) fn parse_job_recovery(value: &Value, validator: &mut Validator) -> Option<Recovery> {
    if let Value::String(_) = value {
        return parse_strategy(value, validator)?.then(Recovery::default);
    }
    let mut fields = Fields::from_value(value, validator)?;
    let is_enabled = fields.optional("strategy", parse_strategy).unwrap_or(true);
    let restarts = fields.with_default("max_restarts_on_errors", 0, parse_max_restarts);
    let exit_codes = fields.optional("recover_on_exit_codes", parse_exit_codes);
    JOB_RECOVERY.finish(fields);
    let recovery = Recovery {
        max_restarts_on_errors: restarts?,
        recover_on_exit_codes: exit_codes.unwrap_or_default(),
    };
    is_enabled.then_some(recovery)
}

/// Parses a strategy: whether it enables recovery.
fn parse_strategy(value: &Value, validator: &mut Validator) -> Option<bool> {
    let name = coerce::string(value, validator)?;
    if name.eq_ignore_ascii_case("none") {
        return Some(false);
    }
    if STRATEGIES.iter().any(|known| name.eq_ignore_ascii_case(known)) {
        return Some(true);
    }
    validator.value_error(
        format!(
            "unsupported strategy `{name}`; expected one of {}, none; `max_restarts_on_errors` is a separate key",
            STRATEGIES.join(", ")
        ),
        value,
    )
}

fn parse_max_restarts(value: &Value, validator: &mut Validator) -> Option<u32> {
    let number = coerce::integer(value, validator)?;
    match u32::try_from(number) {
        Ok(restarts) if number <= i64::from(MAX_RESTARTS) => Some(restarts),
        _ => validator.value_error(format!("must be a number from 0 to {MAX_RESTARTS}"), value),
    }
}

/// Parses a single exit code, or a list.
fn parse_exit_codes(value: &Value, validator: &mut Validator) -> Option<Vec<u8>> {
    match value {
        Value::Array(_) => coerce::list(value, validator, MAX_EXIT_CODES, parse_exit_code),
        _ => parse_exit_code(value, validator).map(|code| vec![code]),
    }
}

fn parse_exit_code(value: &Value, validator: &mut Validator) -> Option<u8> {
    let number = coerce::integer(value, validator)?;
    match u8::try_from(number) {
        Ok(code) => Some(code),
        Err(_) => validator.value_error("an exit code must be a number from 0 to 255", value),
    }
}
