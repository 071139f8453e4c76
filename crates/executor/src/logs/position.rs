//! A position in the log of a pod that can be found again after a reconnect.
//!
//! The API can resume a log only from a whole second. Several lines may have the same time, and stdout and stderr may
//! be slightly out of order. A position is therefore the latest time so far, and the number of lines since that time.

use jiff::Timestamp;

/// The value of `bytes` for a line that was read completely.
const WHOLE: u64 = u64::MAX;

/// The position after a line, or within it. Later positions compare greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LogPosition {
    /// The latest time of all lines so far.
    at: Timestamp,
    /// The number of lines since the first one with that time, which is included.
    lines: u32,
    /// How many bytes of the last line were read, without its timestamp; [`WHOLE`] for all.
    bytes: u64,
}

impl LogPosition {
    /// The position before the first line.
    pub(crate) const START: Self = Self {
        at: Timestamp::MIN,
        lines: 0,
        bytes: WHOLE,
    };

    /// The position just before everything written at `time` or later.
    pub(crate) fn since(time: Timestamp) -> Self {
        let before = time
            .checked_sub(jiff::SignedDuration::from_nanos(1))
            .unwrap_or(Timestamp::MIN);
        Self {
            at: before,
            lines: u32::MAX,
            bytes: WHOLE,
        }
    }

    /// The position after the next line, which was written at `time`.
    pub(crate) fn next_line(self, time: Timestamp) -> Self {
        let lines = if time > self.at {
            1
        } else {
            self.lines.saturating_add(1)
        };
        Self {
            at: self.at.max(time),
            lines,
            bytes: WHOLE,
        }
    }

    /// The position after the first `bytes` of the last line.
    pub(crate) fn within(self, bytes: u64) -> Self {
        Self { bytes, ..self }
    }

    /// How many bytes of the line that ends at `line` lie before this position.
    pub(crate) fn read_of(self, line: Self) -> u64 {
        match (line.at, line.lines).cmp(&(self.at, self.lines)) {
            std::cmp::Ordering::Less => WHOLE,
            std::cmp::Ordering::Equal => self.bytes,
            std::cmp::Ordering::Greater => 0,
        }
    }

    /// The `sinceTime` with which to continue here, or `None` to start at the beginning.
    pub(crate) fn resume_time(self) -> Option<Timestamp> {
        if self.at == Timestamp::MIN {
            return None;
        }
        Timestamp::from_second(self.at.as_second()).ok()
    }

    /// The time, lines, and bytes.
    pub(crate) fn parts(self) -> (Timestamp, u32, u64) {
        (self.at, self.lines, self.bytes)
    }

    /// The opposite of [`Self::parts`].
    pub(crate) fn from_parts(at: Timestamp, lines: u32, bytes: u64) -> Self {
        Self { at, lines, bytes }
    }

    /// Whether it lies between two lines.
    pub(crate) fn is_between_lines(self) -> bool {
        self.bytes == WHOLE
    }

    /// The time of a line that is put here by this program: that of the line before, so that no position changes.
    pub(crate) fn notice_time(self) -> Timestamp {
        self.at.max(Timestamp::UNIX_EPOCH)
    }

    /// Whether these are positions in the same line, or just after it.
    pub(crate) fn is_in_line_of(self, other: Self) -> bool {
        (self.at, self.lines) == (other.at, other.lines)
    }

    /// The latest time so far.
    pub(crate) fn time(self) -> Timestamp {
        self.at
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::LogPosition;

    fn time(nanosecond: i32) -> Timestamp {
        Timestamp::new(1_700_000_000, nanosecond).unwrap()
    }

    #[test]
    fn what_is_older_than_a_time_lies_before_it() {
        let since = LogPosition::since(time(5));
        assert!(LogPosition::START.next_line(time(4)) <= since);
        assert!(LogPosition::START.next_line(time(5)) > since);
    }

    proptest! {
        /// Whatever the clock does, the position after each line is greater than the previous one.
        #[test]
        fn every_line_lies_behind_the_one_before(times in prop::collection::vec(0_i32..5, 1..50)) {
            let mut position = LogPosition::START;
            for nanosecond in times {
                let next = position.next_line(time(nanosecond));
                prop_assert!(next > position);
                prop_assert!(next.within(3) > position && next.within(3) < next);
                position = next;
            }
        }
    }
}
