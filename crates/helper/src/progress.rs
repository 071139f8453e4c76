//! Says how much has arrived, if it takes long.

use std::time::{Duration, Instant};

use files::HumanSize;

/// How long a download is quiet, and the time between two lines. A log is no terminal.
const INTERVAL: Duration = Duration::from_secs(10);

/// The progress of one file set.
pub(crate) struct Progress {
    total: u64,
    next: Instant,
}

impl Progress {
    pub(crate) fn of(total: u64) -> Self {
        let next = Instant::now() + INTERVAL;
        Self { total, next }
    }

    /// Notes how many bytes are written.
    pub(crate) fn set(&mut self, written: u64) {
        let now = Instant::now();
        if now >= self.next {
            self.next = now + INTERVAL;
            eprintln!(
                "[k8s-cli: {} of {} of the files of the task have arrived]",
                HumanSize(written),
                HumanSize(self.total)
            );
        }
    }
}
