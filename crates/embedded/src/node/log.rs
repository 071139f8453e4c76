//! Reading the log of a container, while it grows or after.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::PathBuf;

use bytes::Bytes;
use jiff::Timestamp;

use super::follow::{Followers, Following};
use crate::aside::Aside;
use crate::container::{Folder, Record, parse_record, segments};

/// How much is read at once.
const READ: usize = 128 * 1024;

/// Which part of a log, and in which form.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Go on until the container ends.
    pub follow: bool,
    /// Each line begins with its time.
    pub timestamps: bool,
    /// Only lines of this time or later.
    pub since: Option<Timestamp>,
    /// Only so many lines from the end.
    pub tail: Option<usize>,
    /// Not more than so many bytes.
    pub limit: Option<usize>,
}

/// A log that is being read.
pub struct LogReader {
    cursor: Option<Cursor>,
    folder: Folder,
    followers: Followers,
    aside: Aside,
    /// The log's folder and the container's, when there is something to wait for.
    following: Option<[Following; 2]>,
    follow: bool,
    left: Option<usize>,
}

impl LogReader {
    /// Begins to read.
    pub(super) fn open(folder: Folder, followers: Followers, aside: Aside, wanted: Wanted) -> Self {
        Self {
            cursor: Some(Cursor {
                folder: folder.log(),
                timestamps: wanted.timestamps,
                since: wanted.since,
                tail: wanted.tail,
                current: None,
                rest: Vec::new(),
                at_line_start: true,
            }),
            folder,
            followers,
            aside,
            following: None,
            follow: wanted.follow,
            left: wanted.limit,
        }
    }

    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            if self.left == Some(0) {
                return Ok(None);
            }
            let (over, bytes) = self.read().await?;
            if let Some(mut bytes) = bytes {
                if let Some(left) = &mut self.left {
                    bytes.truncate(*left);
                    *left -= bytes.len();
                }
                return Ok(Some(bytes.into()));
            }
            if over {
                return Ok(None);
            }
            match &mut self.following {
                // What came between reading and waiting is found when it is read again.
                None => self.following = Some(self.follow().await?),
                Some([log, container]) => tokio::select! {
                    () = log.changed() => {}
                    () = container.changed() => {}
                },
            }
        }
    }

    /// Begins to wait for changes of the log and of the container. All that touches files is done aside from the async
    /// threads: hundreds may begin to follow at once.
    async fn follow(&self) -> io::Result<[Following; 2]> {
        let (followers, folder) = (self.followers.clone(), self.folder.clone());
        let begun = self
            .aside
            .run(move || [followers.follow(&folder.log()), followers.follow(folder.path())]);
        begun.await.map_err(io::Error::other)
    }

    /// Whether nothing more will come, and what there is.
    async fn read(&mut self) -> io::Result<(bool, Option<Vec<u8>>)> {
        let Some(mut cursor) = self.cursor.take() else {
            return Ok((true, None));
        };
        let (follow, folder) = (self.follow, self.folder.clone());
        let done = self.aside.run(move || {
            // Before reading: what is written before the end is read after it is known.
            let over = !follow || has_ended(&folder);
            let result = cursor.read();
            (cursor, over, result)
        });
        let (cursor, over, result) = done.await.map_err(io::Error::other)?;
        self.cursor = Some(cursor);
        Ok((over, result?))
    }
}

fn has_ended(folder: &Folder) -> bool {
    let unattended = || matches!(folder.take(), Ok(Some(_)) | Err(_));
    folder.outcome().is_some() || (folder.started().is_some() && unattended())
}

/// A place in the files of a log.
#[derive(Debug)]
struct Cursor {
    folder: PathBuf,
    timestamps: bool,
    since: Option<Timestamp>,
    tail: Option<usize>,
    current: Option<(u64, File)>,
    /// Bytes of a record that has not ended.
    rest: Vec<u8>,
    at_line_start: bool,
}

impl Cursor {
    /// What there is to be read now; `None` when there is nothing more.
    fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        if self.current.is_none() && !self.begin()? {
            return Ok(None);
        }
        let mut buffer = vec![0; READ];
        loop {
            let Some((number, file)) = &mut self.current else {
                return Ok(None);
            };
            let count = file.read(&mut buffer)?;
            if count == 0 {
                // A file that has a successor does not grow any more; what came just before it was made is read first.
                let number = *number;
                let Some((next, path)) = segments(&self.folder)?.into_iter().find(|(other, _)| *other > number) else {
                    return Ok(None);
                };
                let count = file.read(&mut buffer)?;
                if count == 0 {
                    self.current = Some((next, File::open(path)?));
                    continue;
                }
                self.rest.extend_from_slice(&buffer[..count]);
            } else {
                self.rest.extend_from_slice(&buffer[..count]);
            }
            let shown = self.show();
            if !shown.is_empty() {
                return Ok(Some(shown));
            }
        }
    }

    /// Finds where to begin; false when there is no log yet.
    fn begin(&mut self) -> io::Result<bool> {
        let all = match segments(&self.folder) {
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
            // The newest file that begins before the time.
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

    /// Turns the records that are whole into what the reader sees.
    fn show(&mut self) -> Vec<u8> {
        let bytes = std::mem::take(&mut self.rest);
        let mut shown = Vec::with_capacity(bytes.len());
        let mut start = 0;
        while let Some(end) = bytes[start..].iter().position(|byte| *byte == b'\n') {
            if let Some(record) = parse_record(&bytes[start..start + end]) {
                self.show_record(&record, &mut shown);
            }
            start += end + 1;
        }
        self.rest = bytes[start..].to_vec();
        shown
    }

    fn show_record(&mut self, record: &Record<'_>, shown: &mut Vec<u8>) {
        if let Some(since) = self.since {
            if time_of(record).is_some_and(|time| time < since) {
                return;
            }
            self.since = None;
        }
        if self.timestamps && self.at_line_start {
            shown.extend_from_slice(record.time);
            shown.push(b' ');
        }
        shown.extend_from_slice(record.content);
        if record.ends {
            shown.push(b'\n');
        }
        self.at_line_start = record.ends;
    }
}

fn time_of(record: &Record<'_>) -> Option<Timestamp> {
    std::str::from_utf8(record.time).ok()?.parse().ok()
}

fn first_time(file: &File) -> io::Result<Option<Timestamp>> {
    let mut line = Vec::new();
    BufReader::new(file).read_until(b'\n', &mut line)?;
    Ok(parse_record(&line).and_then(|record| time_of(&record)))
}

/// Where the last so many lines of a file begin, and how many there are.
fn last_lines(file: &File, wanted: usize) -> io::Result<(u64, usize)> {
    let mut reader = BufReader::with_capacity(READ, file);
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
                if starts.len() > wanted {
                    starts.pop_front();
                }
            }
            at_line_start = record.ends;
        }
        offset += size as u64;
    }
    Ok((starts.front().copied().unwrap_or(offset), starts.len()))
}
