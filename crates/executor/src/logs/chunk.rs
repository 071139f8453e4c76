//! A piece of one pod's log, as whole lines where possible, and how it is written for a person.

use bytes::{BufMut, Bytes, BytesMut};

use super::position::Position;

/// Consecutive bytes of a log.
#[derive(Debug)]
pub(super) struct Chunk {
    /// The text, without times; newlines are a part of it.
    content: Bytes,
    /// The lines, or parts of lines, that `content` consists of.
    segments: Vec<Segment>,
    /// The place before the first segment.
    pub before: Position,
    /// What most followers want, made once for all of them.
    common: Bytes,
}

/// A line, or a part of one.
#[derive(Debug, Clone, Copy)]
struct Segment {
    /// The place behind the line.
    line: Position,
    /// Where in the line the segment starts.
    from: u64,
    /// Where in `content` it ends.
    end: usize,
}

/// How a log is written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Style {
    /// Before each line; empty for a task of one node.
    pub prefix: String,
    /// Whether each line starts with its time.
    pub timestamps: bool,
}

/// Collects segments.
#[derive(Debug)]
pub(super) struct ChunkBuilder {
    before: Position,
    content: BytesMut,
    segments: Vec<Segment>,
}

impl ChunkBuilder {
    /// A chunk that continues at `before`.
    pub fn new(before: Position) -> Self {
        Self {
            before,
            content: BytesMut::new(),
            segments: Vec::new(),
        }
    }

    /// Adds bytes `from..` of a line; `line` is the place behind all of it.
    pub fn add(&mut self, line: Position, from: u64, bytes: &[u8]) {
        self.content.put_slice(bytes);
        self.segments.push(Segment {
            line,
            from,
            end: self.content.len(),
        });
    }

    /// The chunk, prepared for `style`; `None` when nothing was added.
    pub fn build(self, style: &Style) -> Option<Chunk> {
        if self.segments.is_empty() {
            return None;
        }
        let mut chunk = Chunk {
            content: self.content.freeze(),
            segments: self.segments,
            before: self.before,
            common: Bytes::new(),
        };
        chunk.common = chunk.write(Position::START, style);
        Some(chunk)
    }
}

impl Chunk {
    /// The place behind the last segment.
    pub fn after(&self) -> Position {
        let last = self.segments[self.segments.len() - 1];
        if self.is_open() {
            last.line.within(last.from + self.length(self.segments.len() - 1))
        } else {
            last.line
        }
    }

    /// Whether it ends within a line.
    pub fn is_open(&self) -> bool {
        self.content.last() != Some(&b'\n')
    }

    /// How much memory it takes, about.
    pub fn size(&self) -> usize {
        self.content.len() + self.common.len() + self.segments.len() * size_of::<Segment>()
    }

    /// What lies behind `position`, for followers of the style it was prepared for.
    pub fn common(&self, position: Position, style: &Style) -> Bytes {
        if position <= self.before {
            self.common.clone()
        } else {
            self.write(position, style)
        }
    }

    /// What lies behind `position`, in any style.
    pub fn write(&self, position: Position, style: &Style) -> Bytes {
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
