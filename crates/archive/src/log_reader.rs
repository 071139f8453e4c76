//! Reads the log of a pod from the archive.

use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use object_store::path::Path;

use crate::error::Error;
use crate::frame::{Frame, FrameHeader};
use crate::key::LogKey;
use crate::log_writer::LogState;
use crate::position::Position;
use crate::store::Store;

/// How many frames are read ahead.
const READ_AHEAD: usize = 2;

/// Which part of a log to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadFrom {
    /// Everything after this place, and some lines before it: all that have the same time, and often more.
    Position(Option<Position>),
    /// The last lines.
    Tail(u32),
}

/// Where to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Start {
    /// The number of the first frame.
    frame: usize,
    /// How many lines of it, and of those after it, to skip.
    skip: u64,
}

/// Reads a part of a log. The text begins with a whole line; each line has its time, as the Kubernetes API writes it. A frame
/// that is damaged or missing is a line that says so: no retry helps, and the frames after it can be read.
pub(crate) async fn read(
    store: &Store,
    key: LogKey,
    from: ReadFrom,
) -> Result<impl Stream<Item = Result<Bytes, Error>> + Send + use<>, Error> {
    let state = LogState::read_readable(store, key.clone()).await?;
    let start = start(&state.frames, from);
    let store = store.clone();
    let numbered = state.frames.into_iter().enumerate().skip(start.frame);
    let frames = stream::iter(numbered).map(move |(number, header)| {
        let (store, path) = (store.clone(), key.frame(u32::try_from(number).unwrap_or(u32::MAX)));
        async move {
            match read_text(&store, &path).await {
                Ok(text) => Ok((header, Some(text))),
                Err(error @ Error::Invalid { .. }) => {
                    tracing::error!(%error, "a part of a log cannot be read");
                    Ok((header, None))
                }
                Err(error) => Err(error),
            }
        }
    });
    let mut joined = Joined::new(start.skip);
    let end = stream::iter([Ok(None)]);
    let texts = frames.buffered(READ_AHEAD).map_ok(Some).chain(end);
    Ok(texts.map_ok(move |frame| match frame {
        Some((header, text)) => joined.push(&header, text),
        None => joined.end(),
    }))
}

async fn read_text(store: &Store, path: &Path) -> Result<Vec<u8>, Error> {
    let content = store.get(path).await?.ok_or_else(|| Error::Invalid {
        path: path.to_string(),
        reason: "it was deleted".to_owned(),
    })?;
    Frame::decode(path.as_ref(), &content)
}

/// Joins the texts of frames, of which some may be missing.
struct Joined {
    /// How many lines to skip.
    skip: u64,
    /// What is missing before the next text.
    gap: Option<Gap>,
    /// Whether the next text begins within a line whose beginning is missing.
    is_within_line: bool,
}

/// Consecutive frames that cannot be read.
struct Gap {
    before: Option<Position>,
    after: Position,
    lines: u64,
    bytes: u64,
}

impl Joined {
    fn new(skip: u64) -> Self {
        Self {
            skip,
            gap: None,
            is_within_line: false,
        }
    }

    /// The text of the next frame, or nothing yet if it is missing.
    fn push(&mut self, header: &FrameHeader, text: Option<Vec<u8>>) -> Bytes {
        let Some(text) = text else {
            let lines = u64::from(header.lines);
            self.skip = self.skip.saturating_sub(lines);
            let gap = self.gap.get_or_insert(Gap {
                before: header.before,
                after: header.after,
                lines: 0,
                bytes: 0,
            });
            gap.after = header.after;
            gap.lines += lines;
            gap.bytes += header.bytes;
            return Bytes::new();
        };
        let mut text = Bytes::from(text);
        if self.gap.is_some() {
            self.is_within_line = !header.begins_with_line();
        }
        if self.is_within_line {
            let line_end = text.iter().position(|byte| *byte == b'\n');
            self.is_within_line = line_end.is_none();
            text = text.slice(line_end.map_or(text.len(), |end| end + 1)..);
        }
        let text = skip_lines(text, &mut self.skip);
        match self.gap.take() {
            Some(gap) => [gap.line().as_bytes(), &text].concat().into(),
            None => text,
        }
    }

    /// What is left at the end.
    fn end(&mut self) -> Bytes {
        self.gap.take().map_or_else(Bytes::new, |gap| gap.line().into())
    }
}

impl Gap {
    /// The line of the log that says what is missing. It has the time of the line before, so that no position changes.
    fn line(&self) -> String {
        // An incomplete line before it must not swallow it.
        let newline = match self.before {
            Some(before) if !before.is_between_lines() => "\n",
            _ => "",
        };
        let time = self.before.unwrap_or(self.after).time;
        let size = match (self.lines, self.bytes) {
            (0, 0) => "an unknown number of lines".to_owned(),
            (lines, bytes) => format!("{lines} lines, {bytes} bytes"),
        };
        format!("{newline}{time:.9} [k8s-cli: a part of the log is missing here: {size}; the archive is damaged]\n")
    }
}

fn start(frames: &[FrameHeader], from: ReadFrom) -> Start {
    match from {
        ReadFrom::Position(None) => Start { frame: 0, skip: 0 },
        ReadFrom::Position(Some(position)) => {
            // Places are counted from the first line with their time, so that line must be read.
            let is_early = |frame: &FrameHeader| {
                frame.begins_with_line() && frame.before.is_none_or(|before| before.time < position.time)
            };
            let frame = frames.iter().rposition(is_early).unwrap_or(0);
            Start { frame, skip: 0 }
        }
        ReadFrom::Tail(lines) => {
            let mut found = 0;
            for (frame, header) in frames.iter().enumerate().rev() {
                found += u64::from(header.lines);
                if found >= u64::from(lines) && header.begins_with_line() {
                    let skip = found - u64::from(lines);
                    return Start { frame, skip };
                }
            }
            Start { frame: 0, skip: 0 }
        }
    }
}

/// Drops the first `skip` lines, and counts them down.
fn skip_lines(text: Bytes, skip: &mut u64) -> Bytes {
    let mut from = 0;
    while *skip > 0 {
        let Some(length) = text[from..].iter().position(|byte| *byte == b'\n') else {
            return Bytes::new();
        };
        from += length + 1;
        *skip -= 1;
    }
    text.slice(from..)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::{FrameHeader, Position, ReadFrom, skip_lines, start};
    use crate::frame::Frame;

    /// Frames of a log whose lines have these times, in seconds; each frame has as many lines as `cuts` says.
    fn frames(times: &[i64], cuts: &[usize]) -> Vec<FrameHeader> {
        let mut before: Option<Position> = None;
        let mut frames = Vec::new();
        let mut rest = times;
        for cut in cuts.iter().chain([&usize::MAX]) {
            let (lines, more) = rest.split_at((*cut).min(rest.len()));
            if lines.is_empty() {
                break;
            }
            let mut after = before;
            for time in lines {
                let time = Timestamp::from_second(*time).unwrap();
                let count = after.filter(|after| after.time == time).map_or(0, |after| after.lines);
                after = Some(Position {
                    time,
                    lines: count + 1,
                    bytes: u64::MAX,
                });
            }
            let count = u32::try_from(lines.len()).unwrap();
            frames.push(Frame::new((before, after.unwrap()), count, Vec::new()).header);
            before = after;
            rest = more;
        }
        frames
    }

    fn log() -> impl Strategy<Value = (Vec<i64>, Vec<FrameHeader>)> {
        let steps = prop::collection::vec(0_i64..2, 1..40);
        let cuts = prop::collection::vec(1_usize..6, 0..8);
        (steps, cuts).prop_map(|(steps, cuts)| {
            let times: Vec<i64> = steps
                .iter()
                .scan(1_700_000_000, |time, step| {
                    *time += step;
                    Some(*time)
                })
                .collect();
            let frames = frames(&times, &cuts);
            (times, frames)
        })
    }

    proptest! {
        #[test]
        fn a_tail_has_as_many_lines_as_were_asked_for((times, frames) in log(), lines in 0_u32..50) {
            let start = start(&frames, ReadFrom::Tail(lines));
            let read: u64 = frames[start.frame.min(frames.len())..].iter().map(|frame| u64::from(frame.lines)).sum();
            prop_assert_eq!(read - start.skip, u64::from(lines).min(times.len() as u64));
        }

        /// And no more frames are read than that takes.
        #[test]
        fn all_lines_with_the_time_of_a_place_are_read((times, frames) in log(), index in any::<prop::sample::Index>()) {
            let line = index.index(times.len());
            let time = Timestamp::from_second(times[line]).unwrap();
            let position = Position { time, lines: 1, bytes: u64::MAX };
            let start = start(&frames, ReadFrom::Position(Some(position)));
            let skipped: usize = frames[..start.frame].iter().map(|frame| frame.lines as usize).sum();
            let first = times.iter().position(|other| *other == times[line]).unwrap();
            prop_assert!(skipped <= first);
            let next: usize = skipped + frames[start.frame].lines as usize;
            prop_assert!(start.frame + 1 == frames.len() || next >= first);
        }

        #[test]
        fn skipped_lines_may_span_frames(lines in prop::collection::vec("[a-z]{0,3}\n", 0..20), cut in any::<prop::sample::Index>(), skip in 0_usize..25) {
            let text: String = lines.concat();
            let (left, right) = text.split_at(cut.index(text.len() + 1));
            let mut rest = skip as u64;
            let mut read = skip_lines(left.to_owned().into(), &mut rest).to_vec();
            read.extend_from_slice(&skip_lines(right.to_owned().into(), &mut rest));
            prop_assert_eq!(String::from_utf8(read).unwrap(), lines.iter().skip(skip).map(String::as_str).collect::<String>());
        }
    }
}
