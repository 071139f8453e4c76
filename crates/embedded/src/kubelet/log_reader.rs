//! Reads the log of a container, while it grows or afterward.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::PathBuf;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};

use super::dir_watcher::{DirSubscription, DirWatcher};
use crate::blocking::BlockingPool;
use crate::container::{ContainerDir, LogRecord, list_log_files, missing_output_notice, parse_record};

/// Buffer size for reads, in bytes.
const READ_BUFFER_BYTES: usize = 128 * 1024;

/// Which part of a log to read, and in which format.
#[derive(Debug, Clone, Default)]
pub(crate) struct PodLogOptions {
    /// Wait for new lines until the container ends.
    pub follow: bool,
    /// Prefix each line with its time.
    pub timestamps: bool,
    /// Skip lines before this time.
    pub since: Option<Timestamp>,
    /// Limit the output to this number of lines from the end.
    pub tail: Option<usize>,
    /// Limit the output to this number of bytes.
    pub limit: Option<usize>,
}

/// A reader of one log.
pub(crate) struct LogReader {
    cursor: Option<LogCursor>,
    container_dir: ContainerDir,
    watcher: DirWatcher,
    blocking_pool: BlockingPool,
    /// Subscriptions to the log's directory and the container's, once there is something to wait for.
    subscriptions: Option<[DirSubscription; 2]>,
    follow: bool,
    remaining_bytes: Option<usize>,
}

impl LogReader {
    pub(super) fn open(
        container_dir: ContainerDir,
        watcher: DirWatcher,
        blocking_pool: BlockingPool,
        options: PodLogOptions,
    ) -> Self {
        Self {
            cursor: Some(LogCursor {
                dir: container_dir.log(),
                timestamps: options.timestamps,
                wants_beginning: options.tail.is_none(),
                since: options.since,
                tail: options.tail,
                current: None,
                incomplete_record: Vec::new(),
                at_line_start: true,
                has_reported_lost_end: false,
            }),
            container_dir,
            watcher,
            blocking_pool,
            subscriptions: None,
            follow: options.follow,
            remaining_bytes: options.limit,
        }
    }

    /// Returns the next bytes, or `None` at the end.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            if self.remaining_bytes == Some(0) {
                return Ok(None);
            }
            let LogChunk { bytes, is_last } = self.read_chunk().await?;
            if let Some(mut bytes) = bytes {
                if let Some(remaining_bytes) = &mut self.remaining_bytes {
                    bytes.truncate(*remaining_bytes);
                    *remaining_bytes -= bytes.len();
                }
                return Ok(Some(bytes.into()));
            }
            if is_last {
                return Ok(None);
            }
            match &mut self.subscriptions {
                // Follow before reading again: that read finds what was written in between.
                None => self.subscriptions = Some(self.subscribe().await?),
                Some([log, container]) => tokio::select! {
                    () = log.changed() => {}
                    () = container.changed() => {}
                },
            }
        }
    }

    /// Starts to follow the log and the container. File access stays off the async threads, because hundreds of readers
    /// may start at the same time.
    async fn subscribe(&self) -> io::Result<[DirSubscription; 2]> {
        let (watcher, dir) = (self.watcher.clone(), self.container_dir.clone());
        let begun = self
            .blocking_pool
            .run(move || [watcher.subscribe(&dir.log()), watcher.subscribe(dir.path())]);
        begun.await.map_err(io::Error::other)
    }

    /// Reads what there is.
    async fn read_chunk(&mut self) -> io::Result<LogChunk> {
        let Some(mut cursor) = self.cursor.take() else {
            return Ok(LogChunk {
                bytes: None,
                is_last: true,
            });
        };
        let (follow, dir) = (self.follow, self.container_dir.clone());
        let done = self.blocking_pool.run(move || {
            // Check for the end before reading. The other way around, output written in between would be missed.
            let is_last = !follow || dir.has_ended();
            let mut result = cursor.read();
            if is_last && matches!(result, Ok(None)) {
                result = Ok(cursor.end_notice(&dir));
            }
            (cursor, is_last, result)
        });
        let (cursor, is_last, result) = done.await.map_err(io::Error::other)?;
        self.cursor = Some(cursor);
        Ok(LogChunk {
            bytes: result?,
            is_last,
        })
    }
}

/// What one read has found.
struct LogChunk {
    bytes: Option<Vec<u8>>,
    /// Whether nothing more will come.
    is_last: bool,
}

/// A position in the files of a log.
#[derive(Debug)]
struct LogCursor {
    dir: PathBuf,
    timestamps: bool,
    since: Option<Timestamp>,
    tail: Option<usize>,
    /// Whether the reader wants the beginning, i.e., set no `tail`.
    wants_beginning: bool,
    current: Option<(u64, File)>,
    /// Bytes of an incomplete record.
    incomplete_record: Vec<u8>,
    at_line_start: bool,
    has_reported_lost_end: bool,
}

impl LogCursor {
    /// Returns what can be read now, or `None` if that is nothing.
    fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        if self.current.is_none() {
            if !self.open_first_file()? {
                return Ok(None);
            }
            if let Some(notice) = self.beginning_notice()? {
                return Ok(Some(notice));
            }
        }
        let mut buffer = vec![0; READ_BUFFER_BYTES];
        loop {
            let Some((number, file)) = &mut self.current else {
                return Ok(None);
            };
            let count = file.read(&mut buffer)?;
            if count == 0 {
                // A file that has a successor no longer grows. Read it again first, because the last records may have
                // been written just before the successor was created.
                let number = *number;
                let Some((next, path)) = list_log_files(&self.dir)?
                    .into_iter()
                    .find(|(other, _)| *other > number)
                else {
                    return Ok(None);
                };
                let count = file.read(&mut buffer)?;
                if count == 0 {
                    self.current = Some((next, File::open(path)?));
                    if next > number + 1
                        && let Some(notice) = self.middle_notice()?
                    {
                        return Ok(Some(notice));
                    }
                    continue;
                }
                self.incomplete_record.extend_from_slice(&buffer[..count]);
            } else {
                self.incomplete_record.extend_from_slice(&buffer[..count]);
            }
            let shown = self.format_records();
            if !shown.is_empty() {
                return Ok(Some(shown));
            }
        }
    }

    /// Returns a notice if the oldest part was removed and the reader wants it.
    fn beginning_notice(&mut self) -> io::Result<Option<Vec<u8>>> {
        let is_whole = self.current.as_ref().is_none_or(|(number, _)| *number == 0);
        if is_whole || !self.wants_beginning {
            return Ok(None);
        }
        self.removed_part_notice("the beginning of this log was removed to stay within the log size limit")
    }

    /// Returns a notice if a part was removed between the last file and this one.
    fn middle_notice(&mut self) -> io::Result<Option<Vec<u8>>> {
        // The rest of this record is gone.
        self.incomplete_record.clear();
        self.removed_part_notice("a part of this log was removed here to stay within the log size limit")
    }

    /// Formats a notice before the first line of the current file, unless the reader only wants later lines.
    fn removed_part_notice(&mut self, words: &str) -> io::Result<Option<Vec<u8>>> {
        let Some((_, file)) = &self.current else {
            return Ok(None);
        };
        let first = first_time(file)?;
        (&*file).seek(SeekFrom::Start(0))?;
        let at = match first {
            // Just before the first line: times are unique, so no other line has this one.
            Some(time) => time - SignedDuration::from_nanos(1),
            None => Timestamp::try_from(file.metadata()?.modified()?).unwrap_or_default(),
        };
        if self.since.is_some_and(|since| at < since) {
            return Ok(None);
        }
        let mut notice = if self.at_line_start || self.since.is_some() {
            Vec::new()
        } else {
            vec![b'\n']
        };
        self.at_line_start = true;
        notice.extend(self.notice_line(at, &format!("[k8s-cli: {words}]")));
        Ok(Some(notice))
    }

    /// Returns a notice, once, if the end of the log could not be written.
    fn end_notice(&mut self, dir: &ContainerDir) -> Option<Vec<u8>> {
        let outcome = dir.outcome().filter(|outcome| outcome.lost_log_bytes > 0)?;
        if std::mem::replace(&mut self.has_reported_lost_end, true) {
            return None;
        }
        let mut line = if self.at_line_start { Vec::new() } else { vec![b'\n'] };
        line.extend(self.notice_line(
            outcome.at,
            &missing_output_notice(outcome.lost_log_bytes, "the disk was full"),
        ));
        Some(line)
    }

    fn notice_line(&self, at: Timestamp, words: &str) -> Vec<u8> {
        let time = if self.timestamps {
            format!("{at:.9} ")
        } else {
            String::new()
        };
        format!("{time}{words}\n").into_bytes()
    }

    /// Opens the file to start from. Returns false if there is no log yet.
    fn open_first_file(&mut self) -> io::Result<bool> {
        let all = match list_log_files(&self.dir) {
            Ok(all) => all,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        let Some((mut number, path)) = all.first().cloned() else {
            return Ok(false);
        };
        let mut file = File::open(path)?;
        if let Some(lines) = self.tail.take() {
            let mut missing = lines;
            for (older, path) in all.iter().rev() {
                number = *older;
                file = File::open(path)?;
                let (start, found) = last_lines(&file, missing)?;
                file.seek(SeekFrom::Start(start))?;
                missing -= found;
                if missing == 0 {
                    break;
                }
            }
        } else if let Some(since) = self.since {
            // Find the newest file that starts before `since`.
            for (newer, path) in all.iter().skip(1) {
                let candidate = File::open(path)?;
                if first_time(&candidate)?.is_none_or(|time| time > since) {
                    break;
                }
                number = *newer;
                file = File::open(path)?;
            }
        }
        self.current = Some((number, file));
        Ok(true)
    }

    /// Formats the complete records for the reader.
    fn format_records(&mut self) -> Vec<u8> {
        let bytes = std::mem::take(&mut self.incomplete_record);
        let mut shown = Vec::with_capacity(bytes.len());
        let mut start = 0;
        while let Some(end) = bytes[start..].iter().position(|byte| *byte == b'\n') {
            if let Some(record) = parse_record(&bytes[start..start + end]) {
                self.format_record(&record, &mut shown);
            }
            start += end + 1;
        }
        self.incomplete_record = bytes[start..].to_vec();
        shown
    }

    /// As with the kubelet, the rest of a line that started before `since` has no time. With the time of a part, it
    /// would look like another line.
    fn format_record(&mut self, record: &LogRecord<'_>, shown: &mut Vec<u8>) {
        if let Some(since) = self.since {
            if time_of(record).is_some_and(|time| time < since) {
                self.at_line_start = record.ends_line;
                return;
            }
            self.since = None;
        }
        if self.timestamps && self.at_line_start {
            shown.extend_from_slice(record.time);
            shown.push(b' ');
        }
        shown.extend_from_slice(record.content);
        if record.ends_line {
            shown.push(b'\n');
        }
        self.at_line_start = record.ends_line;
    }
}

fn time_of(record: &LogRecord<'_>) -> Option<Timestamp> {
    std::str::from_utf8(record.time).ok()?.parse().ok()
}

fn first_time(file: &File) -> io::Result<Option<Timestamp>> {
    let mut line = Vec::new();
    BufReader::new(file).read_until(b'\n', &mut line)?;
    Ok(parse_record(&line).and_then(|record| time_of(&record)))
}

/// Returns where the last `count` lines of a file start, and how many there are.
fn last_lines(file: &File, count: usize) -> io::Result<(u64, usize)> {
    let mut reader = BufReader::with_capacity(READ_BUFFER_BYTES, file);
    let mut starts: VecDeque<u64> = VecDeque::new();
    let (mut offset, mut at_line_start) = (0_u64, true);
    let mut line = Vec::new();
    loop {
        line.clear();
        let size = reader.read_until(b'\n', &mut line)?;
        if size == 0 {
            break;
        }
        let record = parse_record(line.strip_suffix(b"\n").unwrap_or(&line));
        if let Some(record) = record {
            if at_line_start {
                starts.push_back(offset);
                if starts.len() > count {
                    starts.pop_front();
                }
            }
            at_line_start = record.ends_line;
        }
        offset += size as u64;
    }
    Ok((starts.front().copied().unwrap_or(offset), starts.len()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use jiff::Timestamp;

    use super::LogCursor;

    /// Creates a log with one line in each file. The line shows the file's number, which is also its time in seconds.
    fn log(name: &str, numbers: &[u64]) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("k8s-cli-log-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        for number in numbers {
            write(&dir, *number);
        }
        dir
    }

    fn write(dir: &Path, number: u64) {
        let line = format!("2026-01-01T00:00:{number:02}.000000000Z stdout F line {number}\n");
        fs::write(dir.join(format!("{number:08}.log")), line).unwrap();
    }

    fn cursor(dir: &Path, since: Option<&str>, tail: Option<usize>) -> LogCursor {
        LogCursor {
            dir: dir.to_owned(),
            timestamps: false,
            since: since.map(|time| time.parse::<Timestamp>().unwrap()),
            tail,
            wants_beginning: tail.is_none(),
            current: None,
            incomplete_record: Vec::new(),
            at_line_start: true,
            has_reported_lost_end: false,
        }
    }

    fn incomplete_record(cursor: &mut LogCursor) -> String {
        let mut all = Vec::new();
        while let Some(bytes) = cursor.read().unwrap() {
            all.extend(bytes);
        }
        String::from_utf8(all).unwrap()
    }

    const BEGINNING: &str = "[k8s-cli: the beginning of this log was removed to stay within the log size limit]\n";
    const MIDDLE: &str = "[k8s-cli: a part of this log was removed here to stay within the log size limit]\n";

    #[test]
    fn what_was_removed_is_told_where_it_is_missing_to_whoever_wants_it() {
        let dir = log("gaps", &[2, 3, 6]);
        let all = format!("{BEGINNING}line 2\nline 3\n{MIDDLE}line 6\n");
        assert_eq!(incomplete_record(&mut cursor(&dir, None, None)), all);
        // Clients that reconnect ask like this.
        assert_eq!(
            incomplete_record(&mut cursor(&dir, Some("2026-01-01T00:00:01Z"), None)),
            all
        );
        let expected = format!("line 3\n{MIDDLE}line 6\n");
        assert_eq!(
            incomplete_record(&mut cursor(&dir, Some("2026-01-01T00:00:03Z"), None)),
            expected
        );
        assert_eq!(
            incomplete_record(&mut cursor(&dir, Some("2026-01-01T00:00:06Z"), None)),
            "line 6\n"
        );
        assert_eq!(incomplete_record(&mut cursor(&dir, None, Some(1))), "line 6\n");
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn the_rest_of_a_line_that_began_before_is_no_line_of_its_own() {
        let dir = log("rest", &[]);
        let lines = "2026-01-01T00:00:01.000000000Z stdout P 10 %\n2026-01-01T00:00:03.000000000Z stdout P 20 %\n\
                     2026-01-01T00:00:04.000000000Z stdout F \n2026-01-01T00:00:05.000000000Z stdout F next\n";
        fs::write(dir.join("00000000.log"), lines).unwrap();
        let mut late = cursor(&dir, Some("2026-01-01T00:00:02Z"), None);
        late.timestamps = true;
        assert_eq!(
            incomplete_record(&mut late),
            "20 %\n2026-01-01T00:00:05.000000000Z next\n"
        );
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_part_that_is_removed_while_somebody_follows_is_told() {
        let dir = log("follow", &[0]);
        let mut cursor = cursor(&dir, None, None);
        assert_eq!(incomplete_record(&mut cursor), "line 0\n");
        fs::remove_file(dir.join("00000000.log")).unwrap();
        write(&dir, 4);
        assert_eq!(incomplete_record(&mut cursor), format!("{MIDDLE}line 4\n"));
        fs::remove_dir_all(dir).unwrap();
    }
}
