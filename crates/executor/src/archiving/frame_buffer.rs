//! What has been read of a log and is not in the archive yet.

use std::sync::Arc;
use std::time::Duration;

use archive::Frame;
use tokio::time::Instant;

use super::notice;
use crate::logs::{Chunk, LineStyle, LogPosition, Missing, missing_before};

/// The size at which a frame is written, in memory; a third to a half of it is text.
const FRAME_SIZE: usize = 2 << 20;

/// The size at which nothing more is read: two frames, of which one is being written, and the next.
const MAX_SIZE: usize = 3 * FRAME_SIZE;

/// How long lines stay in memory: what a server that is killed has to read again. Twice as long after each small frame, so
/// that a quiet log of a week is thousands of frames and not a hundred thousand.
const FIRST_AGE: Duration = Duration::from_secs(5);
const MAX_AGE: Duration = Duration::from_secs(60);

/// The same once the task is about to be deleted. A reader of its log then gets what the archive has.
const HURRIED_AGE: Duration = Duration::from_millis(500);

/// Extra wait, beyond twice that time, for a server whose last frame another server had already written. It leaves the
/// log to the other one, and takes over if that one stops.
const AGE_OF_SECOND: Duration = Duration::from_secs(2);

/// Chunks that follow each other.
pub(super) struct FrameBuffer {
    /// The position before everything in the buffer.
    start: LogPosition,
    chunks: Vec<Arc<Chunk>>,
    size: usize,
    since: Option<Instant>,
    /// How long lines stay in the buffer.
    age: Duration,
    is_second: bool,
    is_hurried: bool,
}

impl FrameBuffer {
    pub(crate) fn new(start: LogPosition) -> Self {
        Self {
            start,
            chunks: Vec::new(),
            size: 0,
            since: None,
            age: FIRST_AGE,
            is_second: false,
            is_hurried: false,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// The approximate size in memory.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Whether to read no more.
    pub(crate) fn is_full(&self) -> bool {
        self.size >= MAX_SIZE
    }

    /// When a frame must be written, if there is anything in the buffer.
    pub(crate) fn due(&self) -> Option<Instant> {
        if self.size >= FRAME_SIZE || self.chunks.iter().skip(1).any(|chunk| chunk.gap.is_some()) {
            return self.since;
        }
        let age = match (self.is_hurried, self.is_second) {
            (true, _) => HURRIED_AGE,
            (false, true) => 2 * self.age + AGE_OF_SECOND,
            (false, false) => self.age,
        };
        self.since.map(|since| since + age)
    }

    /// Lets lines stay in the buffer only for a moment from now on.
    pub(crate) fn hurry(&mut self) {
        self.is_hurried = true;
    }

    /// Since when the oldest line has been in the buffer, if there is one.
    pub(crate) fn since(&self) -> Option<Instant> {
        self.since
    }

    /// Adds a chunk. What the archive already has of it is left out.
    pub(crate) fn push(&mut self, chunk: Arc<Chunk>) {
        if chunk.after() > self.start {
            self.size += chunk.size();
            self.since.get_or_insert_with(Instant::now);
            self.chunks.push(chunk);
        }
    }

    /// The first chunks in the buffer, as many as make a frame. A gap is always before a frame.
    fn frame_chunks(&self) -> &[Arc<Chunk>] {
        let mut size = 0;
        let is_end = |(index, chunk): (usize, &Arc<Chunk>)| {
            let ends = index > 0 && (size >= FRAME_SIZE || chunk.gap.is_some());
            size += chunk.size();
            ends
        };
        let end = self.chunks.iter().enumerate().position(is_end);
        &self.chunks[..end.unwrap_or(self.chunks.len())]
    }

    /// The next frame, or `None` if the buffer is empty.
    pub(crate) fn frame(&self) -> Option<Frame> {
        let chunks = self.frame_chunks();
        let first = chunks.first()?;
        let style = LineStyle {
            prefix: String::new(),
            timestamps: true,
        };
        // Most frames are small: room for a large one each time would fragment the memory of the server.
        let size: usize = chunks.iter().map(|chunk| chunk.size()).sum();
        let mut text = Vec::with_capacity(size.min(FRAME_SIZE / 2));
        let mut lines: u32 = 0;
        let missing = self.missing_before(chunks);
        if let Some(why) = notice::rotated(missing, self.start, first) {
            text.extend_from_slice(&notice::line(self.start, &why));
            lines += 1;
        }
        // A reader that joins the shared stream begins with a chunk of which it may have read a part.
        let mut position = self.start;
        for chunk in chunks {
            text.extend_from_slice(&chunk.write(position, &style));
            lines = lines.saturating_add(chunk.lines_after(position));
            position = position.max(chunk.after());
        }
        let after = position.to_archive()?;
        let frame = Frame::new((self.start.to_archive(), after), lines, text);
        Some(match missing {
            Missing::Nothing => frame,
            Missing::Bytes(bytes) => frame.behind_gap(Some(bytes)),
            Missing::Unknown => frame.behind_gap(None),
        })
    }

    /// What is missing before these chunks. Another server may have written what follows the gap.
    fn missing_before(&self, chunks: &[Arc<Chunk>]) -> Missing {
        match chunks.first() {
            Some(first) if first.before < self.start => Missing::Nothing,
            _ => missing_before(chunks),
        }
    }

    /// A frame that says what is missing at the end of the log. The buffer is empty.
    pub(crate) fn lost_frame(&self, reason: &str) -> Option<Frame> {
        let after = self.start.next_line(self.start.notice_time());
        let text = notice::line(self.start, reason);
        Some(Frame::new((self.start.to_archive(), after.to_archive()?), 1, text).behind_gap(None))
    }

    /// The number of bytes of the log in the buffer.
    pub(crate) fn unwritten(&self) -> u64 {
        let mut position = self.start;
        let unwritten = self.chunks.iter().map(|chunk| {
            let bytes = chunk.bytes_after(position);
            position = position.max(chunk.after());
            bytes
        });
        unwritten.sum()
    }

    /// Gives up what is in the buffer.
    pub(crate) fn clear(&mut self) {
        self.chunks.clear();
        self.size = 0;
        self.since = None;
    }

    /// Everything up to this position is in the archive. `is_second` if another server has written it.
    pub(crate) fn advance(&mut self, position: LogPosition, is_second: bool) {
        self.start = self.start.max(position);
        let start = self.start;
        self.chunks.retain(|chunk| chunk.after() > start);
        let size = self.chunks.iter().map(|chunk| chunk.size()).sum();
        let is_small = self.size - size < FRAME_SIZE;
        self.age = if is_small { MAX_AGE.min(2 * self.age) } else { FIRST_AGE };
        self.size = size;
        self.since = (!self.chunks.is_empty()).then(Instant::now);
        self.is_second = is_second;
    }
}

#[cfg(test)]
mod tests;
