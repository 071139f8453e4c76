//! From the bytes of a log with times to chunks.

use jiff::Timestamp;
use jiff::fmt::temporal::DateTimeParser;

use super::chunk::{Chunk, ChunkBuilder, Style};
use super::position::Position;

/// How long a line may be to be passed on whole. A longer one is passed on in parts, so that one line cannot fill the
/// memory.
const MAX_WHOLE_LINE: usize = 256 * 1024;

/// The longest time: `2026-11-23T15:30:34.854651123+00:00`, and a space.
const MAX_TIME: usize = 40;

/// The log that arrives is not the log: the kubelet wrote an error into it instead.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the kubelet answered instead of the log: {0}")]
pub(super) struct NotALog(String);

/// Reads one upstream answer that starts at a time, and drops what was read before.
#[derive(Debug)]
pub(super) struct Parser {
    /// Nothing up to here is passed on again.
    target: Position,
    /// Behind the last line that was begun.
    line: Position,
    /// How much of that line was read; `None` between lines.
    inside: Option<u64>,
    /// Bytes that are not yet passed on: a part of a line, from its time on when it was not begun.
    pending: Vec<u8>,
    /// The answer may start within a line that began before the time it was asked for.
    may_start_inside: bool,
}

impl Parser {
    /// A parser that continues behind `target` with an answer from [`Position::resume_time`] on.
    pub fn resume(target: Position) -> Self {
        Self {
            target,
            line: Position::START,
            inside: None,
            pending: Vec::new(),
            may_start_inside: target.resume_time().is_some(),
        }
    }

    /// Behind everything that was passed on.
    pub fn position(&self) -> Position {
        self.target
    }

    /// Takes bytes and gives what they complete.
    ///
    /// # Errors
    /// A line has no time: it is no line of the log.
    pub fn push(&mut self, bytes: &[u8], style: &Style) -> Result<Option<Chunk>, NotALog> {
        let mut builder = ChunkBuilder::new(self.target);
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, after) = rest.split_at(end + 1);
            rest = after;
            if self.pending.is_empty() {
                self.take(line, &mut builder)?;
            } else {
                let mut whole = std::mem::take(&mut self.pending);
                whole.extend_from_slice(line);
                self.take(&whole, &mut builder)?;
            }
        }
        self.pending.extend_from_slice(rest);
        if self.pending.len() > MAX_WHOLE_LINE {
            let part = std::mem::take(&mut self.pending);
            self.take(&part, &mut builder)?;
        }
        Ok(builder.build(style))
    }

    /// Whether bytes are kept back until the end of their line, and could be passed on as a part of it.
    pub fn holds_a_part(&self) -> bool {
        !self.pending.is_empty() && (self.inside.is_some() || split_time(&self.pending).is_some())
    }

    /// The log has ended, or pauses within a line: what is left is a part of a line.
    ///
    /// # Errors
    /// It is no line of the log.
    pub fn finish(&mut self, style: &Style) -> Result<Option<Chunk>, NotALog> {
        let mut builder = ChunkBuilder::new(self.target);
        let part = std::mem::take(&mut self.pending);
        if !part.is_empty() {
            self.take(&part, &mut builder)?;
        }
        Ok(builder.build(style))
    }

    /// Takes a line, or a part of one that ends without a newline.
    fn take(&mut self, bytes: &[u8], builder: &mut ChunkBuilder) -> Result<(), NotALog> {
        let ends = bytes.last() == Some(&b'\n');
        let (from, content) = match self.inside {
            Some(read) => (read, bytes),
            None => match split_time(bytes) {
                Some((time, content)) => {
                    self.line = self.line.next_line(time);
                    (0, content)
                }
                None if self.may_start_inside => {
                    // The rest of a line that was passed on before, or is older than what was asked for.
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
            builder.add(self.line, from.max(skipped), &content[new..]);
            self.target = if ends { self.line } else { self.line.within(read) };
        }
        Ok(())
    }
}

fn split_time(line: &[u8]) -> Option<(Timestamp, &[u8])> {
    static PARSER: DateTimeParser = DateTimeParser::new();
    let head = &line[..line.len().min(MAX_TIME)];
    // A line that ends right behind its time has no space: the kubelet leaves it out of an empty last part.
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
