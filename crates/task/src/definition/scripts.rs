//! Parses `setup` and `run`: text that is passed to a process.

use serde_json::Value;

use crate::validation::{Validator, coerce};

/// The maximum size of `setup` and of `run`, in bytes. Both are stored in one Kubernetes object, which etcd limits to
/// 1.5 MiB (<https://etcd.io/docs/latest/dev-guide/limit/>).
pub const MAX_SCRIPT_BYTES: usize = 500_000;

/// The maximum size of a single argument or variable on Linux, in bytes: `MAX_ARG_STRLEN` (32 pages) minus the
/// terminating NUL.
pub const MAX_ARGUMENT_BYTES: usize = 128 * 1024 - 1;

/// The maximum length of a path on Linux: `PATH_MAX` minus the terminating NUL.
pub(super) const MAX_PATH_BYTES: usize = 4095;

/// The pattern of text without NUL characters, for the OpenAPI document; [`deny_nul`] implements the rule.
pub(super) const NO_NUL_PATTERN: &str = r"^[^\x00]*$";

pub(super) fn parse_script(value: &Value, validator: &mut Validator) -> Option<String> {
    let text = coerce::string(value, validator)?;
    if text.len() > MAX_SCRIPT_BYTES {
        let bytes = text.len();
        return validator.value_error(
            format!(
                "the script exceeds the limit of {MAX_SCRIPT_BYTES} bytes ({bytes} bytes); store it in a volume or in \
                 the image"
            ),
            value,
        );
    }
    deny_nul(value, validator, text)
}

/// Rejects text that cannot be passed to a process: on Linux, arguments and variables end at a NUL.
pub(super) fn deny_nul(value: &Value, validator: &mut Validator, text: String) -> Option<String> {
    if text.contains('\0') {
        return validator.value_error(
            "must not contain a NUL character, which cannot be passed to a process",
            value,
        );
    }
    Some(text)
}
