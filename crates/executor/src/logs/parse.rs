//! Parses a log with timestamps into chunks.

use jiff::Timestamp;
use jiff::fmt::temporal::DateTimeParser;

use super::chunk::{Chunk, ChunkBuilder, LineStyle};
use super::position::LogPosition;

/// The longest line that is passed on whole. Longer ones are passed on in parts, so that a single line cannot exhaust
/// memory.
const MAX_WHOLE_LINE: usize = 256 * 1024;

/// The longest timestamp, `2026-11-23T15:30:34.854651123+00:00`, and a space.
const MAX_TIME: usize = 40;

/// The kubelet wrote an error into the response instead of the log.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the kubelet returned an error instead of the log: {0}")]
pub(crate) struct NotALog(String);

/// Parses one response that starts at a whole second, and drops what was passed on before.
#[derive(Debug)]
pub(crate) struct Parser {
    /// The position after everything that was passed on.
    target: LogPosition,
    /// The position after the last line that was begun.
    line: LogPosition,
    /// How many bytes of that line were read; `None` between lines.
    inside: Option<u64>,
    /// Bytes that are held back: an incomplete line, including its timestamp unless a part of it was passed on.
    pending: Vec<u8>,
    /// Whether the line of the position where the response was to begin has not been seen. Without it, lines may be
    /// missing: the kubelet had rotated the log, unless that line was the last one before.
    is_unconnected: bool,
    /// Whether the response may start in the middle of a line that began before the requested time.
    may_start_inside: bool,
}

impl Parser {
    /// A parser that continues after `target` with a response from [`LogPosition::resume_time`] on.
    pub(crate) fn resume(target: LogPosition) -> Self {
        Self {
            target,
            line: LogPosition::START,
            inside: None,
            pending: Vec::new(),
            is_unconnected: target != LogPosition::START,
            may_start_inside: target.resume_time().is_some(),
        }
    }

    /// The position after everything that was passed on.
    pub(crate) fn position(&self) -> LogPosition {
        self.target
    }

    /// Adds bytes and returns the lines that they complete.
    ///
    /// # Errors
    /// A line without a timestamp is not part of the log.
    pub(crate) fn push(&mut self, bytes: &[u8], style: &LineStyle) -> Result<Option<Chunk>, NotALog> {
        let mut builder = ChunkBuilder::new(self.target);
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, after) = rest.split_at(end + 1);
            rest = after;
            if self.pending.is_empty() {
                self.parse_line(line, &mut builder)?;
            } else {
                let mut whole = std::mem::take(&mut self.pending);
                whole.extend_from_slice(line);
                self.parse_line(&whole, &mut builder)?;
            }
        }
        self.pending.extend_from_slice(rest);
        if self.pending.len() > MAX_WHOLE_LINE {
            let part = std::mem::take(&mut self.pending);
            self.parse_line(&part, &mut builder)?;
        }
        Ok(builder.build(style))
    }

    /// Whether an incomplete line is held back that [`Self::finish`] could return.
    pub(crate) fn has_partial_line(&self) -> bool {
        !self.pending.is_empty() && (self.inside.is_some() || split_time(&self.pending).is_some())
    }

    /// Returns the incomplete line that is held back, when the log has ended or pauses.
    pub(crate) fn finish(&mut self, style: &LineStyle) -> Result<Option<Chunk>, NotALog> {
        let mut builder = ChunkBuilder::new(self.target);
        let part = std::mem::take(&mut self.pending);
        if !part.is_empty() {
            self.parse_line(&part, &mut builder)?;
        }
        Ok(builder.build(style))
    }

    /// Processes a line, or a part of one that ends without a newline.
    fn parse_line(&mut self, bytes: &[u8], builder: &mut ChunkBuilder) -> Result<(), NotALog> {
        let ends = bytes.last() == Some(&b'\n');
        let (from, content) = match self.inside {
            Some(read) => (read, bytes),
            None => match split_time(bytes) {
                Some((time, content)) => {
                    self.line = self.line.next_line(time);
                    self.is_unconnected &= !self.line.is_in_line_of(self.target);
                    (0, content)
                }
                None if self.may_start_inside => {
                    // This is the rest of a line that was passed on before, or that is older than requested.
                    self.may_start_inside = !ends;
                    return Ok(());
                }
                None => return Err(NotALog(excerpt(bytes))),
            },
        };
        self.may_start_inside = false;
        let read = from + content.len() as u64;
        self.inside = (!ends).then_some(read);
        let skipped = self.target.read_of(self.line);
        if skipped < read {
            let new = usize::try_from(skipped.saturating_sub(from)).unwrap_or(0);
            if std::mem::take(&mut self.is_unconnected) {
                builder.set_gap();
            }
            builder.add(self.line, from.max(skipped), &content[new..]);
            self.target = if ends { self.line } else { self.line.within(read) };
        }
        Ok(())
    }
}

fn split_time(line: &[u8]) -> Option<(Timestamp, &[u8])> {
    static PARSER: DateTimeParser = DateTimeParser::new();
    let head = &line[..line.len().min(MAX_TIME)];
    // Without a space, the timestamp may be incomplete, or the last part of a line is empty: the kubelet then writes no
    // space.
    let end = head.iter().position(|byte| *byte == b' ')?;
    let time = PARSER.parse_timestamp(&line[..end]).ok()?;
    Some((time, &line[end + 1..]))
}

fn excerpt(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]);
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests;
