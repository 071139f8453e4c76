//! A place in the log of a pod.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A place in the log of a pod that can be found again in the pod itself. Later places compare greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    /// The latest time of all lines before it.
    pub time: Timestamp,
    /// The number of lines since the first one with that time, which is included.
    pub lines: u32,
    /// How many bytes of the last line lie before it; `u64::MAX` for the whole line.
    pub bytes: u64,
}

impl Position {
    /// Before every line.
    pub(crate) const EARLIEST: Self = Self {
        time: Timestamp::UNIX_EPOCH,
        lines: 0,
        bytes: u64::MAX,
    };

    /// Whether it lies between two lines.
    #[must_use]
    pub fn is_between_lines(self) -> bool {
        self.bytes == u64::MAX
    }
}
