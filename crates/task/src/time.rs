//! Formats and parses times on the wire: RFC 3339, UTC, with `Z`.

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};

/// Formats a time with microseconds.
#[must_use]
pub fn format(time: Timestamp) -> String {
    format!("{time:.6}")
}

/// Parses a time with a time zone, or a naive time in UTC, which the Python implementation writes.
#[must_use]
pub fn parse(text: &str) -> Option<Timestamp> {
    text.parse::<Timestamp>().ok().or_else(|| {
        let naive = text.parse::<DateTime>().ok()?;
        Some(naive.to_zoned(TimeZone::UTC).ok()?.timestamp())
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_time_is_read_with_and_without_its_zone() {
        for text in ["2026-11-23T15:30:34.854651Z", "2026-11-23T15:30:34.854651"] {
            assert_eq!(
                super::format(super::parse(text).unwrap()),
                "2026-11-23T15:30:34.854651Z"
            );
        }
        assert_eq!(super::parse("yesterday"), None);
    }
}
