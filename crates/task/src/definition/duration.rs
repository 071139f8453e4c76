//! How long something may take: `90s`, `30m`, `1h30m`, `2d`.

use std::time::Duration;

use jiff::{Span, SpanRelativeTo};
use serde_json::Value;

use crate::validation::{self, Cursor};

/// The longest time that can be asked for: a year, in seconds.
pub const MAX_SECONDS: u32 = 365 * 24 * 60 * 60;

const MAX: Duration = Duration::from_secs(MAX_SECONDS as u64);

/// Reads a time with its units; a day has 24 hours. A number alone could mean seconds or minutes, and is refused.
///
/// # Errors
/// Why it is none.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no time; write it like `90s`, `30m`, `1h30m` or `2d`");
    let span: Span = text.parse().map_err(|_| wrong())?;
    let signed = span
        .to_duration(SpanRelativeTo::days_are_24_hours())
        .map_err(|_| wrong())?;
    let duration = Duration::try_from(signed).map_err(|_| wrong())?;
    if duration < Duration::from_secs(1) || duration > MAX {
        return Err(format!("`{text}` is not between one second and a year"));
    }
    Ok(duration)
}

pub(super) fn read(value: &Value, cursor: &mut Cursor) -> Option<Duration> {
    let text = validation::string(value, cursor)?;
    match parse_duration(&text) {
        Ok(duration) => Some(duration),
        Err(reason) => cursor.refuse(reason, value),
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
