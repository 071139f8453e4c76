//! How much is missing of a log that Kubernetes rotated before it was read.
//!
//! A response that begins behind the last line that was read does not say whether that was the last line of the file before.
//! The shared stream does, because it has read on across the rotation: it has passed on as many bytes between two places as
//! there are.

use std::sync::Arc;

use super::chunk::Chunk;
use super::position::LogPosition;

/// What is missing before a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    Nothing,
    Bytes(u64),
    /// Nobody has read it, if there is anything.
    Unknown,
}

/// Finds out what is missing before the first of these chunks, which follow each other.
pub(crate) fn missing_before(chunks: &[Arc<Chunk>]) -> Missing {
    let (Some(first), Some(last)) = (chunks.first(), chunks.last()) else {
        return Missing::Nothing;
    };
    let Some(gap) = &first.gap else {
        return Missing::Nothing;
    };
    let Some(before) = &gap.before else {
        return Missing::Unknown;
    };
    for place in before.stream.between(first.before, last.after()) {
        if let Some(read) = bytes_until(chunks, place.position) {
            let passed_on = place.offset.saturating_sub(before.offset);
            return match passed_on.saturating_sub(read) {
                0 => Missing::Nothing,
                bytes => Missing::Bytes(bytes),
            };
        }
    }
    Missing::Unknown
}

/// How many bytes of the chunks lie before the end of the line at `position`, if that is in them.
fn bytes_until(chunks: &[Arc<Chunk>], position: LogPosition) -> Option<u64> {
    let mut from = chunks.first()?.before;
    let mut bytes = 0;
    for chunk in chunks {
        bytes += chunk.bytes_after(from);
        if chunk.has_line_end_at(position) {
            return Some(bytes - chunk.bytes_after(position));
        }
        from = from.max(chunk.after());
    }
    None
}
