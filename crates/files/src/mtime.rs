//! When a file was last changed, as other programs ask for it: `make`, Python's `__pycache__`, archives.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The last second that has room in the header of a tar archive, in the year 2242.
const LAST: u64 = (1 << 33) - 1;

/// 1980-01-02. Zip archives know no time before 1980, wherever the time zone begins it.
const UNKNOWN: u64 = 315_619_200;

/// When a file was last changed, in whole seconds since 1970, up to the year 2242. In JSON, a number.
///
/// Seconds are what every way to a node can keep: the header of a tar has no room for less, and not every `tar` knows
/// the extension that has. Python compares seconds, and `make` takes an equal time for new enough. They are rounded
/// down, so that no file is newer than it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mtime(u64);

impl Mtime {
    /// The time for entries without one; accepted by programs that reject times before 1980.
    pub const UNKNOWN: Self = Self(UNKNOWN);

    /// The nearest time to this many seconds since 1970.
    #[must_use]
    pub fn nearest(seconds: i64) -> Self {
        Self(u64::try_from(seconds).unwrap_or(0).min(LAST))
    }

    /// The seconds since 1970.
    #[must_use]
    pub fn seconds(self) -> u64 {
        self.0
    }
}

impl Serialize for Mtime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Mtime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let seconds = u64::deserialize(deserializer)?;
        let mtime = (seconds <= LAST).then_some(Self(seconds));
        mtime.ok_or_else(|| D::Error::custom(format!("a time is 0 to {LAST} seconds")))
    }
}

#[cfg(test)]
mod tests {
    use super::Mtime;

    #[test]
    fn a_time_that_no_archive_has_room_for_is_moved_to_the_nearest_and_not_read() {
        for (seconds, nearest) in [(i64::MIN, 0), (-1, 0), (0, 0), (1 << 33, (1 << 33) - 1)] {
            assert_eq!(Mtime::nearest(seconds).seconds(), nearest);
        }
        let read = |text| serde_json::from_str::<Mtime>(text).map(Mtime::seconds);
        assert_eq!(read("8589934591").unwrap(), (1 << 33) - 1);
        for wrong in ["8589934592", "-1", "1.5", "18446744073709551616", "\"1\"", "null"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
