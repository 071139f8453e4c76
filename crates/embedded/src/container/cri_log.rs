//! Writes the log of a container: lines with their time and stream, in files of limited size.
//!
//! The format is that of the Container Runtime Interface: `2026-11-23T12:00:00.123456789Z stdout F text`, where `F` ends
//! a line and `P` is a part of a line that continues:
//! <https://github.com/kubernetes/design-proposals-archive/blob/main/node/kubelet-cri-logging.md>.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::fmt::temporal::DateTimePrinter;
use jiff::{SignedDuration, Timestamp};

use crate::files::sync_dir;

/// Size limit for one file, in bytes.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// How much of a line is held back until its end is known, in bytes. The same as in containerd.
const MAX_PARTIAL_LINE: usize = 16 * 1024;

/// How long an incomplete line is held back. A progress bar writes no newline, and somebody may be watching it.
const PARTIAL_LINE_DELAY: Duration = Duration::from_millis(250);

/// One record of a log file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LogRecord<'a> {
    /// When the shim read the output.
    pub time: &'a [u8],
    /// Whether a line ends with this record.
    pub ends_line: bool,
    pub content: &'a [u8],
}

/// Parses a record without its newline. Returns `None` for anything else, e.g., a record that a crash cut off.
pub(crate) fn parse_record(line: &[u8]) -> Option<LogRecord<'_>> {
    let mut parts = line.splitn(4, |byte| *byte == b' ');
    let (time, _stream, tag, content) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let ends_line = match tag {
        b"F" => true,
        b"P" => false,
        _ => return None,
    };
    Some(LogRecord {
        time,
        ends_line,
        content,
    })
}

/// Returns the files of a log with their numbers, oldest first.
pub(crate) fn list_log_files(dir: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir)? {
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
pub(super) struct OutputStream {
    name: &'static str,
    partial_line: Vec<u8>,
    /// Since when the incomplete line is held back.
    held_since: Option<Instant>,
}

impl OutputStream {
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            partial_line: Vec::new(),
            held_since: None,
        }
    }

    /// When to write the incomplete line.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.held_since.map(|since| since + PARTIAL_LINE_DELAY)
    }
}

/// The writer of a log.
#[derive(Debug)]
pub(super) struct LogWriter {
    dir: PathBuf,
    limit: u64,
    number: u64,
    size: u64,
    file: File,
    buffer: Vec<u8>,
    /// Bytes of output in the buffer, not counting times and stream names.
    held: u64,
    /// Whether the last record in the file is a part of a line that continues.
    file_ends_mid_line: bool,
    /// The same for the last record in the buffer, or in the file if the buffer is empty.
    buffer_ends_mid_line: bool,
    /// Time of the last record.
    last: Timestamp,
    lost: Option<LostOutput>,
}

/// Output that could not be written.
#[derive(Debug)]
struct LostOutput {
    bytes: u64,
    why: String,
    /// Time of the last of it, which no other record has.
    at: Timestamp,
}

/// Returns the notice that takes the place of missing output.
pub(crate) fn missing_output_notice(bytes: u64, why: &str) -> String {
    format!("[k8s-cli: {bytes} bytes of output are missing here: {why}]")
}

impl LogWriter {
    /// Starts a new file after the existing ones.
    pub(crate) fn open(dir: &Path, limit: u64) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let number = list_log_files(dir)?.last().map_or(0, |(number, _)| number + 1);
        Ok(Self {
            dir: dir.to_owned(),
            limit,
            number,
            size: 0,
            file: create_log_file(dir, number)?,
            buffer: Vec::new(),
            held: 0,
            file_ends_mid_line: false,
            buffer_ends_mid_line: false,
            last: Timestamp::MIN,
            lost: None,
        })
    }

    /// Records the output of a stream. If the disk has no space for it, the output is lost, and the log says so as soon
    /// as there is space again: a task must not fail because its log cannot be written.
    pub(crate) fn write_output(&mut self, stream: &mut OutputStream, bytes: &[u8]) {
        let mut rest = bytes;
        let is_same_line = !bytes.contains(&b'\n');
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, after) = rest.split_at(end);
            rest = &after[1..];
            self.add_record(stream.name, true, &stream.partial_line, line);
            stream.partial_line.clear();
        }
        stream.partial_line.extend_from_slice(rest);
        while stream.partial_line.len() >= MAX_PARTIAL_LINE {
            let tail = stream.partial_line.split_off(MAX_PARTIAL_LINE);
            self.add_record(stream.name, false, &stream.partial_line, b"");
            stream.partial_line = tail;
        }
        stream.held_since = match stream.held_since {
            _ if stream.partial_line.is_empty() => None,
            Some(since) if is_same_line => Some(since),
            _ => Some(Instant::now()),
        };
        self.write_buffer();
    }

    /// Writes the incomplete line of a stream that pauses or has ended.
    pub(crate) fn write_partial_line(&mut self, stream: &mut OutputStream) {
        stream.held_since = None;
        if !stream.partial_line.is_empty() {
            let partial_line = std::mem::take(&mut stream.partial_line);
            self.add_record(stream.name, false, &partial_line, b"");
        }
        self.write_buffer();
    }

    /// Makes the log durable. Syncing each file when it is full would block the command instead.
    pub(crate) fn sync(&self) -> io::Result<()> {
        for (_, path) in list_log_files(&self.dir)? {
            match File::open(path) {
                Ok(file) => file.sync_all()?,
                // It was removed to stay within a size limit.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        sync_dir(&self.dir)
    }

    /// Returns how many bytes of output are lost without a notice in the log.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.as_ref().map_or(0, |lost| lost.bytes)
    }

    /// Writes the notice about lost output, if there is space for it now.
    pub(crate) fn write_loss_notice(&mut self) {
        self.write_buffer();
    }

    fn write_buffer(&mut self) {
        match self.try_write_buffer() {
            Ok(()) => {
                self.file_ends_mid_line = self.buffer_ends_mid_line;
                self.lost = None;
            }
            Err(error) => {
                self.buffer_ends_mid_line = self.file_ends_mid_line;
                let before = self.lost.take();
                self.lost = Some(LostOutput {
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
    fn add_record(&mut self, stream: &str, ends_line: bool, first: &[u8], second: &[u8]) {
        let after_last = self
            .last
            .checked_add(SignedDuration::from_nanos(1))
            .unwrap_or(self.last);
        self.last = Timestamp::now().max(after_last);
        self.buffer
            .extend_from_slice(record_header(self.last, stream).as_bytes());
        self.buffer.extend_from_slice(if ends_line { b"F " } else { b"P " });
        self.buffer.extend_from_slice(first);
        self.buffer.extend_from_slice(second);
        self.buffer.push(b'\n');
        self.held += (first.len() + second.len()) as u64 + u64::from(ends_line);
        self.buffer_ends_mid_line = !ends_line;
    }

    fn try_write_buffer(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() && self.lost.is_none() {
            return Ok(());
        }
        if self.size >= MAX_FILE_BYTES.min(self.limit / 4) {
            self.file = create_log_file(&self.dir, self.number + 1)?;
            self.number += 1;
            self.size = 0;
            // The next new file retries the removal.
            let _ = self.remove_oldest_files();
        }
        let notice = self.loss_records();
        let written = self
            .file
            .write_all(&notice)
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
            self.buffer_ends_mid_line = false;
        }
        self.size += (notice.len() + self.buffer.len()) as u64;
        Ok(())
    }

    /// Returns the record that reports lost output.
    fn loss_records(&self) -> Vec<u8> {
        let Some(lost) = &self.lost else {
            return Vec::new();
        };
        let header = record_header(lost.at, "stderr");
        // End an incomplete line first, so that the notice is a line of its own.
        let end = if self.file_ends_mid_line {
            format!("{header}F \n")
        } else {
            String::new()
        };
        format!("{end}{header}F {}\n", missing_output_notice(lost.bytes, &lost.why)).into_bytes()
    }

    /// Removes the oldest files until the log is within its limit.
    fn remove_oldest_files(&self) -> io::Result<()> {
        let all = list_log_files(&self.dir)?;
        // The kubelet may have removed some of them, too.
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

fn create_log_file(dir: &Path, number: u64) -> io::Result<File> {
    let path = dir.join(format!("{number:08}.log"));
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

fn record_header(at: Timestamp, stream: &str) -> String {
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
    use super::{LogRecord, LogWriter, OutputStream, list_log_files, parse_record};

    fn contents(dir: &std::path::Path) -> Vec<(bool, Vec<u8>)> {
        let mut found = Vec::new();
        for (_, path) in list_log_files(dir).unwrap() {
            for line in std::fs::read(path).unwrap().split(|byte| *byte == b'\n') {
                if let Some(LogRecord { ends_line, content, .. }) = parse_record(line) {
                    found.push((ends_line, content.to_vec()));
                }
            }
        }
        found
    }

    fn scratch(name: &str) -> std::path::PathBuf {
        let dir = std::env::temp_dir().join(format!("k8s-cli-record-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        dir
    }

    #[test]
    fn every_byte_is_kept_with_its_line() {
        let dir = scratch("bytes");
        let mut writer = LogWriter::open(&dir, 1 << 20).unwrap();
        let (mut out, mut error) = (OutputStream::new("stdout"), OutputStream::new("stderr"));
        writer.write_output(&mut out, b"one\ntw");
        writer.write_output(&mut error, b"other\n");
        writer.write_output(&mut out, b"o\n\n\0\xff");
        writer.write_partial_line(&mut out);
        let expected: Vec<(bool, Vec<u8>)> = [
            (true, &b"one"[..]),
            (true, b"other"),
            (true, b"two"),
            (true, b""),
            (false, b"\0\xff"),
        ]
        .map(|(ends_line, text)| (ends_line, text.to_vec()))
        .to_vec();
        assert_eq!(contents(&dir), expected);
        let _ = std::fs::remove_dir_all(dir);
    }

    /// Readers count the lines of the same time, and would miscount if they started in the middle of them.
    #[test]
    fn lines_that_were_written_together_have_times_of_their_own() {
        let dir = scratch("times");
        let mut writer = LogWriter::open(&dir, 1 << 20).unwrap();
        let mut out = OutputStream::new("stdout");
        writer.write_output(&mut out, "line\n".repeat(1000).as_bytes());
        let (_, path) = list_log_files(&dir).unwrap().remove(0);
        let text = String::from_utf8(std::fs::read(path).unwrap()).unwrap();
        let times: Vec<&str> = text.lines().map(|line| line.split(' ').next().unwrap()).collect();
        assert_eq!(times.len(), 1000);
        assert!(times.is_sorted_by(|left, right| left < right));
        let _ = std::fs::remove_dir_all(dir);
    }

    #[test]
    fn what_a_full_disk_had_no_room_for_is_told_when_it_has() {
        let dir = scratch("full");
        let mut writer = LogWriter::open(&dir, 1 << 20).unwrap();
        let mut out = OutputStream::new("stdout");
        writer.write_output(&mut out, &[b'x'; super::MAX_PARTIAL_LINE]);
        // This device behaves like a full disk.
        writer.file = std::fs::File::options().write(true).open("/dev/full").unwrap();
        writer.write_output(&mut out, b"lost\nlost, too\n");
        assert_eq!(writer.lost(), 15);
        writer.write_output(&mut out, b"here again\n");
        assert_eq!(writer.lost(), 0);
        let kept: Vec<(bool, String)> = contents(&dir)
            .into_iter()
            .map(|(ends_line, text)| (ends_line, String::from_utf8(text).unwrap()))
            .collect();
        let told = "[k8s-cli: 15 bytes of output are missing here: No space left on device (os error 28)]";
        assert_eq!(
            kept[1..],
            [(true, ""), (true, told), (true, "here again")].map(|(ends_line, text)| (ends_line, text.to_owned()))
        );
        let _ = std::fs::remove_dir_all(dir);
    }

    #[test]
    fn a_log_over_its_limit_loses_its_oldest_part() {
        let dir = scratch("limit");
        let mut writer = LogWriter::open(&dir, 64 * 1024).unwrap();
        let mut out = OutputStream::new("stdout");
        for number in 0..10_000 {
            writer.write_output(&mut out, format!("line {number}\n").as_bytes());
        }
        let kept = contents(&dir);
        assert_eq!(kept.last().unwrap().1, b"line 9999");
        let size: u64 = list_log_files(&dir)
            .unwrap()
            .iter()
            .map(|(_, path)| path.metadata().unwrap().len())
            .sum();
        assert!((32 * 1024..=96 * 1024).contains(&size), "{size}");
        let first: usize = String::from_utf8_lossy(&kept[0].1)["line ".len()..].parse().unwrap();
        assert!(first > 0 && kept.len() == 10_000 - first);
        let _ = std::fs::remove_dir_all(dir);
    }
}
