//! Writes the log of a container: lines with their time and stream, in files of limited size.
//!
//! The format is that of the kubelet's log files: `2026-11-23T12:00:00.123456789Z stdout F text`, where `F` ends a line
//! and `P` is a part of a line that continues:
//! <https://github.com/kubernetes/design-proposals-archive/blob/main/node/kubelet-cri-logging.md>.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::fmt::temporal::DateTimePrinter;
use jiff::{SignedDuration, Timestamp};

use crate::files::sync_folder;

/// Size limit for one file, in bytes.
pub const SEGMENT_BYTES: u64 = 64 << 20;

/// How much of a line is held back until its end is known, in bytes. The same as in containerd.
const MAX_PART: usize = 16 * 1024;

/// How long an incomplete line is held back. A progress bar writes no newline, and somebody may be watching it.
const PART_PAUSE: Duration = Duration::from_millis(250);

/// One record of a log file.
#[derive(Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// When the supervisor read the output.
    pub time: &'a [u8],
    /// Whether a line ends with this record.
    pub ends: bool,
    pub content: &'a [u8],
}

/// Parses a record without its newline. Returns `None` for anything else, e.g., a record that a crash cut off.
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

/// Returns the files of a log with their numbers, oldest first.
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

/// One of the two output streams, with its incomplete line.
#[derive(Debug)]
pub(super) struct Stream {
    name: &'static str,
    part: Vec<u8>,
    /// Since when the incomplete line is held back.
    held_since: Option<Instant>,
}

impl Stream {
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            part: Vec::new(),
            held_since: None,
        }
    }

    /// When to write the incomplete line.
    pub fn due(&self) -> Option<Instant> {
        self.held_since.map(|since| since + PART_PAUSE)
    }
}

/// The writer of a log.
#[derive(Debug)]
pub(super) struct Recorder {
    folder: PathBuf,
    limit: u64,
    number: u64,
    size: u64,
    file: File,
    buffer: Vec<u8>,
    /// Bytes of output in the buffer, not counting times and stream names.
    held: u64,
    /// Whether the last record in the file is a part of a line that continues.
    file_goes_on: bool,
    /// The same for the last record in the buffer, or in the file if the buffer is empty.
    buffer_goes_on: bool,
    /// Time of the last record.
    last: Timestamp,
    lost: Option<Lost>,
}

/// Output that could not be written.
#[derive(Debug)]
struct Lost {
    bytes: u64,
    why: String,
    /// Time of the last of it, which no other record has.
    at: Timestamp,
}

/// Returns the notice that takes the place of missing output.
pub fn gap(bytes: u64, why: &str) -> String {
    format!("[k8s-cli: {bytes} bytes of output are missing here: {why}]")
}

impl Recorder {
    /// Starts a new file after the existing ones.
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
            held: 0,
            file_goes_on: false,
            buffer_goes_on: false,
            last: Timestamp::MIN,
            lost: None,
        })
    }

    /// Records the output of a stream. If the disk has no space for it, the output is lost, and the log says so as soon
    /// as there is space again: a task must not fail because its log cannot be written.
    pub fn take(&mut self, stream: &mut Stream, bytes: &[u8]) {
        let mut rest = bytes;
        let is_same_line = !bytes.contains(&b'\n');
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
        stream.held_since = match stream.held_since {
            _ if stream.part.is_empty() => None,
            Some(since) if is_same_line => Some(since),
            _ => Some(Instant::now()),
        };
        self.write_out();
    }

    /// Writes the incomplete line of a stream that pauses or has ended.
    pub fn write_part(&mut self, stream: &mut Stream) {
        stream.held_since = None;
        if !stream.part.is_empty() {
            let part = std::mem::take(&mut stream.part);
            self.add(stream.name, false, &part, b"");
        }
        self.write_out();
    }

    /// Makes the log durable. Syncing each file when it is full would block the command instead.
    pub fn sync(&self) -> io::Result<()> {
        for (_, path) in segments(&self.folder)? {
            match File::open(path) {
                Ok(file) => file.sync_all()?,
                // It was removed to stay within a size limit.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        sync_folder(&self.folder)
    }

    /// Returns how many bytes of output are lost without a notice in the log.
    pub fn lost(&self) -> u64 {
        self.lost.as_ref().map_or(0, |lost| lost.bytes)
    }

    /// Writes the notice about lost output, if there is space for it now.
    pub fn tell_what_is_lost(&mut self) {
        self.write_out();
    }

    fn write_out(&mut self) {
        match self.flush() {
            Ok(()) => {
                self.file_goes_on = self.buffer_goes_on;
                self.lost = None;
            }
            Err(error) => {
                self.buffer_goes_on = self.file_goes_on;
                let before = self.lost.take();
                self.lost = Some(Lost {
                    bytes: self.held + before.as_ref().map_or(0, |lost| lost.bytes),
                    at: self.last,
                    why: before.map_or_else(|| error.to_string(), |lost| lost.why),
                });
            }
        }
        self.buffer.clear();
        self.held = 0;
    }

    /// Each record has a unique time, as with containerd, so that readers can resume from a time wherever they start.
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
        self.held += (first.len() + second.len()) as u64 + u64::from(ends);
        self.buffer_goes_on = !ends;
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() && self.lost.is_none() {
            return Ok(());
        }
        if self.size >= SEGMENT_BYTES.min(self.limit / 4) {
            self.file = create(&self.folder, self.number + 1)?;
            self.number += 1;
            self.size = 0;
            // The next new file retries the removal.
            let _ = self.forget();
        }
        let gap = self.gap_record();
        let written = self
            .file
            .write_all(&gap)
            .and_then(|()| self.file.write_all(&self.buffer));
        if let Err(error) = written {
            // Remove the incomplete record, or it would merge with the next one. If that fails, continue in a new file.
            if self.file.set_len(self.size).is_err() {
                self.size = u64::MAX;
            }
            return Err(error);
        }
        if self.buffer.is_empty() {
            // Only the notice was written, which is a complete line.
            self.buffer_goes_on = false;
        }
        self.size += (gap.len() + self.buffer.len()) as u64;
        Ok(())
    }

    /// Returns the record that reports lost output.
    fn gap_record(&self) -> Vec<u8> {
        let Some(lost) = &self.lost else {
            return Vec::new();
        };
        let head = head(lost.at, "stderr");
        // End an incomplete line first, so that the notice is a line of its own.
        let end = if self.file_goes_on {
            format!("{head}F \n")
        } else {
            String::new()
        };
        format!("{end}{head}F {}\n", gap(lost.bytes, &lost.why)).into_bytes()
    }

    /// Removes the oldest files until the log is within its limit.
    fn forget(&self) -> io::Result<()> {
        let all = segments(&self.folder)?;
        // The node may have removed some of them, too.
        let sizes: Vec<u64> = all
            .iter()
            .map(|(_, path)| fs::metadata(path).map_or(0, |metadata| metadata.len()))
            .collect();
        let mut total: u64 = sizes.iter().sum();
        // Always keep the newest file, which is being written.
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
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

fn head(at: Timestamp, stream: &str) -> String {
    static PRINTER: DateTimePrinter = DateTimePrinter::new().precision(Some(9));
    let mut text = String::with_capacity(40);
    // Writing to a String cannot fail.
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
        recorder.write_part(&mut out);
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

    /// Readers count the lines of the same time, and would miscount if they started in the middle of them.
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
    fn what_a_full_disk_had_no_room_for_is_told_when_it_has() {
        let folder = scratch("full");
        let mut recorder = Recorder::open(&folder, 1 << 20).unwrap();
        let mut out = Stream::new("stdout");
        recorder.take(&mut out, &[b'x'; super::MAX_PART]);
        // This device behaves like a full disk.
        recorder.file = std::fs::File::options().write(true).open("/dev/full").unwrap();
        recorder.take(&mut out, b"lost\nlost, too\n");
        assert_eq!(recorder.lost(), 15);
        recorder.take(&mut out, b"here again\n");
        assert_eq!(recorder.lost(), 0);
        let kept: Vec<(bool, String)> = contents(&folder)
            .into_iter()
            .map(|(ends, text)| (ends, String::from_utf8(text).unwrap()))
            .collect();
        let told = "[k8s-cli: 15 bytes of output are missing here: No space left on device (os error 28)]";
        assert_eq!(
            kept[1..],
            [(true, ""), (true, told), (true, "here again")].map(|(ends, text)| (ends, text.to_owned()))
        );
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
