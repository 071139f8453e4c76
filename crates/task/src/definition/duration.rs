//! Parses durations such as `90s`, `30m`, `1h30m`, or `2d`.

use std::time::Duration;

use jiff::{Span, SpanRelativeTo};
use serde_json::Value;

use crate::validation::{Validator, coerce};

/// The maximum duration in seconds: one year.
pub const MAX_DURATION_SECONDS: u32 = 365 * 24 * 60 * 60;

const MAX_DURATION: Duration = Duration::from_secs(MAX_DURATION_SECONDS as u64);

/// Parses a duration with units; a day has 24 hours. A number without a unit is invalid, because it could mean seconds
/// or minutes. The error is a message for the user.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let invalid = || format!("invalid duration `{text}`; expected, e.g., `90s`, `30m`, `1h30m`, or `2d`");
    let span: Span = text.parse().map_err(|_| invalid())?;
    let signed = span
        .to_duration(SpanRelativeTo::days_are_24_hours())
        .map_err(|_| invalid())?;
    let duration = Duration::try_from(signed).map_err(|_| invalid())?;
    if duration < Duration::from_secs(1) || duration > MAX_DURATION {
        return Err(format!("a duration must be between 1 second and 1 year, not `{text}`"));
    }
    Ok(duration)
}

pub(super) fn from_value(value: &Value, validator: &mut Validator) -> Option<Duration> {
    let text = coerce::string(value, validator)?;
    match parse_duration(&text) {
        Ok(duration) => Some(duration),
        Err(reason) => validator.value_error(reason, value),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::parse_duration;

    #[test]
    fn a_time_has_units() {
        for (text, seconds) in [
            ("90s", 90),
            ("30m", 1800),
            ("1h30m", 5400),
            ("2d", 172_800),
            ("1h", 3600),
        ] {
            assert_eq!(parse_duration(text).unwrap(), Duration::from_secs(seconds), "{text}");
        }
        for text in ["", "90", "soon", "-1h", "0s", "10ms", "400d", "PT"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
