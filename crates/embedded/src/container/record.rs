//! The log of a container: lines with their time and stream, in files of limited size.
//!
//! The form is that of the kubelet's log files: `2026-11-23T12:00:00.123456789Z stdout F text`, where `F` ends a line and
//! `P` is a part of one that goes on. <https://github.com/kubernetes/design-proposals-archive/blob/main/node/kubelet-cri-logging.md>

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use jiff::fmt::temporal::DateTimePrinter;
use jiff::{SignedDuration, Timestamp};

/// How large one file grows, in bytes.
pub const SEGMENT_BYTES: u64 = 64 << 20;

/// How much of a line is kept back until its end is known. containerd's is the same.
const MAX_PART: usize = 16 * 1024;

/// One record of the file.
#[derive(Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// When it was read.
    pub time: &'a [u8],
    /// Whether a line ends with it.
    pub ends: bool,
    /// What was written.
    pub content: &'a [u8],
}

/// Reads a record without its newline; `None` when it is none, as after a crash in the middle of one.
#[must_use]
pub fn parse_record(line: &[u8]) -> Option<Record<'_>> {
    let mut parts = line.splitn(4, |byte| *byte == b' ');
    let (time, _stream, tag, content) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let ends = match tag {
        b"F" => true,
        b"P" => false,
        _ => return None,
    };
    Some(Record { time, ends, content })
}

/// The files of segments, oldest first, with their numbers.
pub fn segments(folder: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let number = path
            .file_stem()
            .and_then(|stem| stem.to_str())
            .and_then(|stem| stem.parse().ok());
        all.extend(number.map(|number| (number, path)));
    }
    all.sort_unstable();
    Ok(all)
}

/// One of the two streams, with the part of a line that has not ended.
#[derive(Debug)]
pub(super) struct Stream {
    name: &'static str,
    part: Vec<u8>,
}

impl Stream {
    pub fn new(name: &'static str) -> Self {
        Self { name, part: Vec::new() }
    }
}

/// Writes the log.
#[derive(Debug)]
pub(super) struct Recorder {
    folder: PathBuf,
    limit: u64,
    number: u64,
    size: u64,
    file: File,
    buffer: Vec<u8>,
    /// When the last line was written.
    last: Timestamp,
}

impl Recorder {
    /// Begins behind what is there.
    pub fn open(folder: &Path, limit: u64) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let number = segments(folder)?.last().map_or(0, |(number, _)| number + 1);
        Ok(Self {
            folder: folder.to_owned(),
            limit,
            number,
            size: 0,
            file: create(folder, number)?,
            buffer: Vec::new(),
            last: Timestamp::MIN,
        })
    }

    /// Takes what a stream has written. What the disk has no room for is lost: a task does not end because its log cannot
    /// be kept.
    pub fn take(&mut self, stream: &mut Stream, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, after) = rest.split_at(end);
            rest = &after[1..];
            self.add(stream.name, true, &stream.part, line);
            stream.part.clear();
        }
        stream.part.extend_from_slice(rest);
        while stream.part.len() >= MAX_PART {
            let tail = stream.part.split_off(MAX_PART);
            self.add(stream.name, false, &stream.part, b"");
            stream.part = tail;
        }
        self.write_out();
    }

    /// A stream has ended; what is left has no newline.
    pub fn finish(&mut self, stream: &mut Stream) {
        if !stream.part.is_empty() {
            let part = std::mem::take(&mut stream.part);
            self.add(stream.name, false, &part, b"");
        }
        self.write_out();
    }

    fn write_out(&mut self) {
        // There is nobody to be told: this process has no log of its own.
        let _ = self.flush();
        self.buffer.clear();
    }

    /// Each line has a time of its own, as containerd gives it: readers find a place again by it, wherever they begin.
    fn add(&mut self, stream: &str, ends: bool, first: &[u8], second: &[u8]) {
        let after_last = self
            .last
            .checked_add(SignedDuration::from_nanos(1))
            .unwrap_or(self.last);
        self.last = Timestamp::now().max(after_last);
        self.buffer.extend_from_slice(head(self.last, stream).as_bytes());
        self.buffer.extend_from_slice(if ends { b"F " } else { b"P " });
        self.buffer.extend_from_slice(first);
        self.buffer.extend_from_slice(second);
        self.buffer.push(b'\n');
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        if self.size >= SEGMENT_BYTES.min(self.limit / 4) {
            self.number += 1;
            self.file = create(&self.folder, self.number)?;
            self.size = 0;
            self.forget()?;
        }
        self.file.write_all(&self.buffer)?;
        self.size += self.buffer.len() as u64;
        Ok(())
    }

    /// Removes the oldest files as long as there is more than there may be.
    fn forget(&self) -> io::Result<()> {
        let all = segments(&self.folder)?;
        let mut sizes = Vec::new();
        for (_, path) in &all {
            sizes.push(fs::metadata(path)?.len());
        }
        let mut total: u64 = sizes.iter().sum();
        // The newest file is the one that is written, and always stays.
        for ((_, path), size) in all.iter().zip(&sizes).take(all.len().saturating_sub(1)) {
            if total <= self.limit {
                break;
            }
            fs::remove_file(path)?;
            total -= size;
        }
        Ok(())
    }
}

fn create(folder: &Path, number: u64) -> io::Result<File> {
    let path = folder.join(format!("{number:08}.log"));
    OpenOptions::new().create(true).append(true).open(path)
}

fn head(at: Timestamp, stream: &str) -> String {
    static PRINTER: DateTimePrinter = DateTimePrinter::new().precision(Some(9));
    let mut text = String::with_capacity(40);
    // A String takes everything.
    let _ = PRINTER.print_timestamp(&at, &mut text);
    text.push(' ');
    text.push_str(stream);
    text.push(' ');
    text
}

#[cfg(test)]
mod tests {
    use super::{Record, Recorder, Stream, parse_record, segments};

    fn contents(folder: &std::path::Path) -> Vec<(bool, Vec<u8>)> {
        let mut found = Vec::new();
        for (_, path) in segments(folder).unwrap() {
            for line in std::fs::read(path).unwrap().split(|byte| *byte == b'\n') {
                if let Some(Record { ends, content, .. }) = parse_record(line) {
                    found.push((ends, content.to_vec()));
                }
            }
        }
        found
    }

    fn scratch(name: &str) -> std::path::PathBuf {
        let folder = std::env::temp_dir().join(format!("k8s-cli-record-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        folder
    }

    #[test]
    fn every_byte_is_kept_with_its_line() {
        let folder = scratch("bytes");
        let mut recorder = Recorder::open(&folder, 1 << 20).unwrap();
        let (mut out, mut error) = (Stream::new("stdout"), Stream::new("stderr"));
        recorder.take(&mut out, b"one\ntw");
        recorder.take(&mut error, b"other\n");
        recorder.take(&mut out, b"o\n\n\0\xff");
        recorder.finish(&mut out);
        let expected: Vec<(bool, Vec<u8>)> = [
            (true, &b"one"[..]),
            (true, b"other"),
            (true, b"two"),
            (true, b""),
            (false, b"\0\xff"),
        ]
        .map(|(ends, text)| (ends, text.to_vec()))
        .to_vec();
        assert_eq!(contents(&folder), expected);
        let _ = std::fs::remove_dir_all(folder);
    }

    /// Readers count lines of the same time, and one who begins in the middle of them would count wrongly.
    #[test]
    fn lines_that_were_written_together_have_times_of_their_own() {
        let folder = scratch("times");
        let mut recorder = Recorder::open(&folder, 1 << 20).unwrap();
        let mut out = Stream::new("stdout");
        recorder.take(&mut out, "line\n".repeat(1000).as_bytes());
        let (_, path) = segments(&folder).unwrap().remove(0);
        let text = String::from_utf8(std::fs::read(path).unwrap()).unwrap();
        let times: Vec<&str> = text.lines().map(|line| line.split(' ').next().unwrap()).collect();
        assert_eq!(times.len(), 1000);
        assert!(times.is_sorted_by(|left, right| left < right));
        let _ = std::fs::remove_dir_all(folder);
    }

    #[test]
    fn a_log_over_its_limit_loses_its_oldest_part() {
        let folder = scratch("limit");
        let mut recorder = Recorder::open(&folder, 64 * 1024).unwrap();
        let mut out = Stream::new("stdout");
        for number in 0..10_000 {
            recorder.take(&mut out, format!("line {number}\n").as_bytes());
        }
        let kept = contents(&folder);
        assert_eq!(kept.last().unwrap().1, b"line 9999");
        let size: u64 = segments(&folder)
            .unwrap()
            .iter()
            .map(|(_, path)| path.metadata().unwrap().len())
            .sum();
        assert!((32 * 1024..=96 * 1024).contains(&size), "{size}");
        let first: usize = String::from_utf8_lossy(&kept[0].1)["line ".len()..].parse().unwrap();
        assert!(first > 0 && kept.len() == 10_000 - first);
        let _ = std::fs::remove_dir_all(folder);
    }
}
