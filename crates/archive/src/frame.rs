//! A frame: consecutive lines of a log, compressed, behind a header that says where they belong.
//!
//! A frame is one object: a line of JSON (the header), then zstd. The text is that of the Kubernetes API with
//! timestamps, so a reader of logs from there can read them from here.

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::position::Position;

/// The version of the format.
const VERSION: u32 = 1;

/// A header is never longer.
pub(crate) const MAX_HEADER: u64 = 1024;

/// The most text of a frame that is read. Frames are written with about 1 MiB, and one piece of a log more.
const MAX_TEXT: u64 = 16 << 20;

/// A good ratio, and faster than any log is read from Kubernetes.
const LEVEL: i32 = 3;

/// A piece of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Where it belongs.
    pub header: FrameHeader,
    /// The lines, each with its time.
    pub text: Vec<u8>,
}

/// Where a frame belongs in its log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameHeader {
    version: u32,
    /// Everything before this place is in earlier frames. `None` at the beginning of the log.
    pub before: Option<Position>,
    /// The place after the frame.
    pub after: Position,
    /// The number of lines that begin in it.
    pub lines: u32,
    /// The size of the text, in bytes.
    pub bytes: u64,
    /// Whether lines before the frame are missing, because they could not be read in time.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gap: bool,
    /// How many bytes are missing there, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<u64>,
}

impl Frame {
    /// A frame with this text.
    #[must_use]
    pub fn new((before, after): (Option<Position>, Position), lines: u32, text: Vec<u8>) -> Self {
        let header = FrameHeader {
            version: VERSION,
            before,
            after,
            lines,
            bytes: text.len() as u64,
            gap: false,
            missing: None,
        };
        Self { header, text }
    }

    /// The same frame behind lines that are missing: so many bytes, if that is known.
    #[must_use]
    pub fn behind_gap(mut self, missing: Option<u64>) -> Self {
        (self.header.gap, self.header.missing) = (true, missing);
        self
    }

    /// The content of the object.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, Error> {
        let mut content = serde_json::to_vec(&self.header)?;
        content.push(b'\n');
        let compressed = zstd::bulk::compress(&self.text, LEVEL).map_err(|error| Error::Invalid {
            path: "a new frame".to_owned(),
            reason: error.to_string(),
        })?;
        content.extend_from_slice(&compressed);
        Ok(content)
    }

    /// Reads the text of the object at `path`.
    pub(crate) fn decode(path: &str, content: &[u8]) -> Result<Vec<u8>, Error> {
        let (header, compressed) = FrameHeader::split(path, content)?;
        let size = usize::try_from(header.bytes.min(MAX_TEXT)).unwrap_or(usize::MAX);
        let text = zstd::bulk::decompress(compressed, size).map_err(|error| invalid(path, error.to_string()))?;
        if text.len() as u64 != header.bytes {
            return Err(invalid(path, "its size is wrong".to_owned()));
        }
        Ok(text)
    }
}

impl FrameHeader {
    /// Reads the header of the object at `path` from its first bytes.
    pub(crate) fn decode(path: &str, content: &[u8]) -> Result<Self, Error> {
        Self::split(path, content).map(|(header, _)| header)
    }

    fn split<'a>(path: &str, content: &'a [u8]) -> Result<(Self, &'a [u8]), Error> {
        let end = content.iter().position(|byte| *byte == b'\n');
        let (header, rest) = content.split_at(end.ok_or_else(|| invalid(path, "it has no header".to_owned()))?);
        let header: Self = serde_json::from_slice(header).map_err(|error| invalid(path, error.to_string()))?;
        if header.version != VERSION {
            return Err(invalid(path, format!("its version {} is unknown", header.version)));
        }
        Ok((header, &rest[1..]))
    }

    /// Adds headers for frames that have none: they lie between the others, and how large they are is unknown.
    pub(crate) fn fill_holes(headers: Vec<Option<Self>>) -> Vec<Self> {
        let next: Vec<Option<Option<Position>>> = (0..headers.len())
            .map(|at| headers[at..].iter().flatten().next().map(|header| header.before))
            .collect();
        let mut frames: Vec<Self> = Vec::with_capacity(headers.len());
        for (header, next) in headers.into_iter().zip(next) {
            let before = frames.last().map(|frame| frame.after);
            let unknown = || Self {
                version: VERSION,
                before,
                after: next.flatten().or(before).unwrap_or(Position::EARLIEST),
                lines: 0,
                bytes: 0,
                gap: true,
                missing: None,
            };
            frames.push(header.unwrap_or_else(unknown));
        }
        frames
    }

    /// Whether the frame begins with a whole line.
    pub(crate) fn begins_with_line(&self) -> bool {
        self.before.is_none_or(Position::is_between_lines)
    }
}

fn invalid(path: &str, reason: String) -> Error {
    let path = path.to_owned();
    Error::Invalid { path, reason }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::{Frame, FrameHeader, MAX_HEADER, Position};

    fn frame(text: &[u8]) -> Frame {
        let after = Position {
            time: Timestamp::MAX,
            lines: u32::MAX,
            bytes: u64::MAX - 1,
        };
        Frame::new((Some(after), after), u32::MAX, text.to_vec()).behind_gap(Some(u64::MAX))
    }

    #[test]
    fn a_frame_is_read_as_it_was_written() {
        for text in [&b""[..], b"\n\0\xff", &[b'x'; 100_000]] {
            let frame = frame(text);
            let content = frame.encode().unwrap();
            assert_eq!(Frame::decode("x", &content).unwrap(), text);
            assert_eq!(FrameHeader::decode("x", &content).unwrap(), frame.header);
        }
    }

    #[test]
    fn a_frame_of_an_earlier_version_with_the_time_of_its_first_line_is_read() {
        let header = r#"{"version":1,"before":null,"after":{"time":"2026-11-27T10:00:00Z","lines":1,"bytes":18446744073709551615},"first_time":"2026-11-27T10:00:00Z","lines":1,"bytes":4}"#;
        let mut content = format!("{header}\n").into_bytes();
        content.extend(zstd::bulk::compress(b"text", 3).unwrap());
        let read = FrameHeader::decode("x", &content).unwrap();
        assert_eq!(
            (read.lines, read.before, read.gap, read.missing),
            (1, None, false, None)
        );
        assert_eq!(Frame::decode("x", &content).unwrap(), b"text");
    }

    #[test]
    fn a_header_is_within_the_bytes_that_are_read_of_it() {
        let header = serde_json::to_vec(&frame(b"").header).unwrap();
        assert!((header.len() as u64) < MAX_HEADER / 2, "{}", header.len());
    }

    #[test]
    fn damage_is_an_error() {
        let content = frame(b"text of a frame").encode().unwrap();
        for damaged in [&content[..content.len() - 1], &content[..10], b"", b"{}\n", b"x\ny"] {
            assert!(Frame::decode("x", damaged).is_err());
        }
        let mut larger = frame(b"text");
        larger.header.bytes = u64::MAX;
        assert!(Frame::decode("x", &larger.encode().unwrap()).is_err());
    }
}
