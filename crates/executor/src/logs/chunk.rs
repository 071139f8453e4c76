//! A piece of a pod's log, in whole lines where possible, and how it is rendered.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use jiff::Timestamp;

use super::checkpoints::Checkpoints;
use super::position::LogPosition;

/// Consecutive bytes of a log.
#[derive(Debug)]
pub(crate) struct Chunk {
    /// The text without timestamps, including newlines.
    content: Bytes,
    /// The lines, or parts of lines, in `content`.
    segments: Vec<Segment>,
    /// The position before the first segment.
    pub before: LogPosition,
    /// Set if lines between `before` and the first segment may be missing.
    pub gap: Option<Gap>,
    /// The text in the common style, rendered once for all followers.
    common: Bytes,
}

/// A place where lines may be missing, because the log was rotated before they were read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gap {
    /// The place as the shared stream counts, if the reader has left that there.
    pub before: Option<StreamPlace>,
}

/// A place in what a shared stream has passed on.
#[derive(Debug, Clone)]
pub(crate) struct StreamPlace {
    pub stream: Arc<Checkpoints>,
    /// How many bytes lie before it.
    pub offset: u64,
}

/// A line, or a part of one.
#[derive(Debug, Clone, Copy)]
struct Segment {
    /// The position after the line.
    line: LogPosition,
    /// The offset of the segment in its line.
    from: u64,
    /// The end of the segment in `content`.
    end: usize,
}

/// How a log is rendered.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct LineStyle {
    /// The prefix of each line; empty for a task with one node.
    pub prefix: String,
    /// Whether each line starts with its time.
    pub timestamps: bool,
}

/// Builds a chunk from segments.
#[derive(Debug)]
pub(super) struct ChunkBuilder {
    before: LogPosition,
    gap: Option<Gap>,
    content: BytesMut,
    segments: Vec<Segment>,
}

impl ChunkBuilder {
    /// Starts a chunk at `before`.
    pub(crate) fn new(before: LogPosition) -> Self {
        Self {
            before,
            gap: None,
            content: BytesMut::new(),
            segments: Vec::new(),
        }
    }

    /// Adds the bytes of a line from offset `from`; `line` is the position after the whole line.
    pub(crate) fn add(&mut self, line: LogPosition, from: u64, bytes: &[u8]) {
        self.content.put_slice(bytes);
        self.segments.push(Segment {
            line,
            from,
            end: self.content.len(),
        });
    }

    /// Notes that lines may be missing before the first segment.
    pub(crate) fn set_gap(&mut self) {
        self.gap = Some(Gap::default());
    }

    /// The chunk, with `style` as its common style, or `None` if nothing was added.
    pub(crate) fn build(self, style: &LineStyle) -> Option<Chunk> {
        if self.segments.is_empty() {
            return None;
        }
        let mut chunk = Chunk {
            content: self.content.freeze(),
            segments: self.segments,
            before: self.before,
            gap: self.gap,
            common: Bytes::new(),
        };
        chunk.common = chunk.write(LogPosition::START, style);
        Some(chunk)
    }
}

impl Chunk {
    /// The position after the last segment.
    pub(crate) fn after(&self) -> LogPosition {
        let last = self.segments[self.segments.len() - 1];
        if self.is_open() {
            last.line.within(last.from + self.length(self.segments.len() - 1))
        } else {
            last.line
        }
    }

    /// The number of lines that begin after `position`.
    pub(crate) fn lines_after(&self, position: LogPosition) -> u32 {
        let begins = |segment: &&Segment| segment.from == 0 && position.read_of(segment.line) == 0;
        u32::try_from(self.segments.iter().filter(begins).count()).unwrap_or(u32::MAX)
    }

    /// The number of bytes after `position`.
    pub(crate) fn bytes_after(&self, position: LogPosition) -> u64 {
        let unread = |(index, segment): (usize, &Segment)| {
            let skipped = position.read_of(segment.line).saturating_sub(segment.from);
            self.length(index).saturating_sub(skipped)
        };
        self.segments.iter().enumerate().map(unread).sum()
    }

    /// Whether a line ends in it at `position`.
    pub(crate) fn has_line_end_at(&self, position: LogPosition) -> bool {
        let ends = |segment: &Segment| segment.line == position && self.content[segment.end - 1] == b'\n';
        self.segments.iter().any(ends)
    }

    /// The latest time of any line before the end of the first segment.
    pub(crate) fn first_time(&self) -> Timestamp {
        self.segments[0].line.time()
    }

    /// Whether it ends in the middle of a line.
    pub(crate) fn is_open(&self) -> bool {
        self.content.last() != Some(&b'\n')
    }

    /// The approximate memory size.
    pub(crate) fn size(&self) -> usize {
        self.content.len() + self.common.len() + self.segments.len() * size_of::<Segment>()
    }

    /// The text after `position` in the common style.
    pub(crate) fn common(&self, position: LogPosition, style: &LineStyle) -> Bytes {
        if position <= self.before {
            self.common.clone()
        } else {
            self.write(position, style)
        }
    }

    /// The text after `position` in any style.
    pub(crate) fn write(&self, position: LogPosition, style: &LineStyle) -> Bytes {
        let plain = style.prefix.is_empty() && !style.timestamps;
        if plain && position <= self.before {
            return self.content.clone();
        }
        let mut written = BytesMut::with_capacity(self.content.len() + self.segments.len() * style.prefix.len());
        for (index, segment) in self.segments.iter().enumerate() {
            let skipped = position.read_of(segment.line).saturating_sub(segment.from);
            let length = self.length(index);
            if skipped >= length {
                continue;
            }
            if segment.from + skipped == 0 {
                written.put_slice(style.prefix.as_bytes());
                if style.timestamps {
                    written.put_slice(format!("{:.9} ", segment.line.time()).as_bytes());
                }
            }
            let start = segment.end - usize::try_from(length - skipped).unwrap_or(0);
            written.put_slice(&self.content[start..segment.end]);
        }
        written.freeze()
    }

    fn length(&self, index: usize) -> u64 {
        let start = if index == 0 { 0 } else { self.segments[index - 1].end };
        (self.segments[index].end - start) as u64
    }
}
