//! How a log and its record say that a part is missing, and how much.

use archive::LogState;

use crate::logs::{Chunk, LogPosition, Missing};

const ROTATED: &str = "Kubernetes rotated the log before they were read";

/// A line of the log that says that others are missing.
pub(super) fn line(position: LogPosition, what: &str) -> Vec<u8> {
    // An incomplete line before it must not swallow it.
    let newline = if position.is_between_lines() { "" } else { "\n" };
    format!(
        "{newline}{:.9} [k8s-cli: a part of the log is missing here: {what}]\n",
        position.notice_time()
    )
    .into_bytes()
}

/// What is missing between a position and a chunk because the log was rotated.
pub(super) fn rotated(missing: Missing, after: LogPosition, next: &Chunk) -> Option<String> {
    match missing {
        Missing::Nothing => None,
        Missing::Bytes(bytes) => Some(format!("{bytes} bytes; {ROTATED}")),
        Missing::Unknown => Some(format!(
            "an unknown number of bytes, perhaps none, between {:.3} and {:.3}; {ROTATED}",
            after.notice_time(),
            next.first_time()
        )),
    }
}

/// What is missing at the end of a log: at least `unwritten` bytes, which were read but not archived.
pub(super) fn cut(after: LogPosition, unwritten: u64, reason: &str) -> String {
    let bytes = match unwritten {
        0 => "an unknown number of bytes".to_owned(),
        bytes => format!("at least {bytes} bytes"),
    };
    if after == LogPosition::START {
        return format!("{bytes}; {reason}");
    }
    format!("{bytes} after {:.3}; {reason}", after.notice_time())
}

/// What is missing between the lines of a log.
pub(super) fn within(log: &LogState) -> Option<String> {
    match log.missing() {
        Some(0) => None,
        Some(bytes) => Some(format!("{bytes} bytes; {ROTATED}")),
        None => Some(format!("an unknown number of bytes; {ROTATED}")),
    }
}
