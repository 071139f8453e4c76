//! SkyPilot's `job_recovery`: when a failed task is retried.

use serde_json::Value;

use super::super::validation::{self, Cursor, Object};

/// SkyPilot's strategies. They differ in the order in which regions are tried, so on one cluster they are equivalent.
pub(super) const STRATEGIES: [&str; 2] = ["FAILOVER", "EAGER_NEXT_REGION"];

/// The maximum of `max_restarts_on_errors`.
pub const MAX_RESTARTS: u32 = 1000;

/// The maximum number of exit codes: no more exist.
pub(super) const MAX_CODES: usize = 256;

/// When a failed task is retried. A task that the cluster interrupted (eviction, preemption, or a lost cluster node) is
/// always retried.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recovery {
    /// The number of retries after failures of the task itself.
    pub max_restarts_on_errors: u32,
    /// Exit codes after which the task is retried without counting toward that number.
    pub recover_on_exit_codes: Vec<u8>,
}

/// Reads a strategy or an object. The strategy `none` disables recovery.
///
/// Source: <https://docs.skypilot.co/en/latest/reference/yaml-spec.html#resources-job-recovery>.
pub(super) fn read(value: &Value, cursor: &mut Cursor) -> Option<Option<Recovery>> {
    if let Value::String(_) = value {
        return Some(strategy(value, cursor)?.then(Recovery::default));
    }
    let mut object = Object::open(value, cursor)?;
    let recovers = object.optional("strategy", strategy).unwrap_or(true);
    let restarts = object.with_default("max_restarts_on_errors", 0, restarts);
    let codes = object.optional("recover_on_exit_codes", codes);
    object.finish(&[]);
    let recovery = Recovery {
        max_restarts_on_errors: restarts?,
        recover_on_exit_codes: codes.unwrap_or_default(),
    };
    Some(recovers.then_some(recovery))
}

/// Whether the strategy enables recovery.
fn strategy(value: &Value, cursor: &mut Cursor) -> Option<bool> {
    let name = validation::string(value, cursor)?;
    if name.eq_ignore_ascii_case("none") {
        return Some(false);
    }
    if STRATEGIES.iter().any(|known| name.eq_ignore_ascii_case(known)) {
        return Some(true);
    }
    cursor.refuse(
        format!(
            "unsupported strategy `{name}`; expected one of {}, none; `max_restarts_on_errors` is a separate key",
            STRATEGIES.join(", ")
        ),
        value,
    )
}

fn restarts(value: &Value, cursor: &mut Cursor) -> Option<u32> {
    let number = validation::integer(value, cursor)?;
    match u32::try_from(number) {
        Ok(restarts) if number <= i64::from(MAX_RESTARTS) => Some(restarts),
        _ => cursor.refuse(format!("must be a number from 0 to {MAX_RESTARTS}"), value),
    }
}

/// Reads a single exit code, or a list.
fn codes(value: &Value, cursor: &mut Cursor) -> Option<Vec<u8>> {
    match value {
        Value::Array(_) => validation::list(value, cursor, MAX_CODES, code),
        _ => code(value, cursor).map(|code| vec![code]),
    }
}

fn code(value: &Value, cursor: &mut Cursor) -> Option<u8> {
    let number = validation::integer(value, cursor)?;
    match u8::try_from(number) {
        Ok(code) => Some(code),
        Err(_) => cursor.refuse("an exit code must be a number from 0 to 255", value),
    }
}
