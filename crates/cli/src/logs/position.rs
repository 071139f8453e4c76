//! A position in the log of a node that can be found again in another response.

/// A position at the end of a line or within one.
///
/// The server sends with each line the latest time of any line so far, so times never decrease. Time and number of
/// lines with that time therefore identify a line, no matter where in the log a response starts.
#[derive(Debug, PartialEq, Eq, Default)]
pub(crate) struct LogPosition {
    /// The time as sent by the server: always in UTC with nine fractional digits, so that comparing bytes compares
    /// times.
    time: Vec<u8>,
    /// Number of lines with this time so far.
    lines: u64,
    /// Number of bytes read of the last line.
    bytes: u64,
    /// Whether the last line was read completely.
    is_whole: bool,
}

/// How much of a line was read before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Overlap {
    Full,
    /// This many bytes.
    Partial(u64),
    None,
}

impl Clone for LogPosition {
    fn clone(&self) -> Self {
        Self {
            time: self.time.clone(),
            ..*self
        }
    }

    /// Reuses the allocation, because this runs for every line.
    fn clone_from(&mut self, other: &Self) {
        self.time.clone_from(&other.time);
        self.lines = other.lines;
        self.bytes = other.bytes;
        self.is_whole = other.is_whole;
    }
}

impl LogPosition {
    /// Moves to the start of the next line, which has this time.
    pub(crate) fn next_line(&mut self, time: &[u8]) {
        if time > self.time.as_slice() {
            self.time.clear();
            self.time.extend_from_slice(time);
            self.lines = 1;
        } else {
            self.lines += 1;
        }
        self.bytes = 0;
        self.is_whole = false;
    }

    /// Moves within the line.
    pub(crate) fn advance(&mut self, bytes: u64, is_whole: bool) {
        self.bytes += bytes;
        self.is_whole = is_whole;
    }

    /// How much of the line at `other` is before this position.
    pub(crate) fn overlap_with(&self, other: &Self) -> Overlap {
        match (&other.time, other.lines).cmp(&(&self.time, self.lines)) {
            std::cmp::Ordering::Less => Overlap::Full,
            std::cmp::Ordering::Equal if self.is_whole => Overlap::Full,
            std::cmp::Ordering::Equal => Overlap::Partial(self.bytes),
            std::cmp::Ordering::Greater => Overlap::None,
        }
    }

    pub(crate) fn bytes_read(&self) -> u64 {
        self.bytes
    }

    /// The time from which to request the log to resume here.
    pub(crate) fn time(&self) -> &[u8] {
        &self.time
    }
}
