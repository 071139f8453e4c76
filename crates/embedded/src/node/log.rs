//! Reading the log of a container, while it grows or after.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::PathBuf;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};

use super::follow::{Followers, Following};
use crate::aside::Aside;
use crate::container::{Folder, Record, gap, parse_record, segments};

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
                wants_beginning: wanted.tail.is_none(),
                since: wanted.since,
                tail: wanted.tail,
                current: None,
                rest: Vec::new(),
                at_line_start: true,
                has_told_the_end: false,
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
            let over = !follow || folder.has_ended();
            let mut result = cursor.read();
            if over && matches!(result, Ok(None)) {
                result = Ok(cursor.lost_end(&folder));
            }
            (cursor, over, result)
        });
        let (cursor, over, result) = done.await.map_err(io::Error::other)?;
        self.cursor = Some(cursor);
        Ok((over, result?))
    }
}

/// A place in the files of a log.
#[derive(Debug)]
struct Cursor {
    folder: PathBuf,
    timestamps: bool,
    since: Option<Timestamp>,
    tail: Option<usize>,
    /// Not only so many lines from the end were asked for.
    wants_beginning: bool,
    current: Option<(u64, File)>,
    /// Bytes of a record that has not ended.
    rest: Vec<u8>,
    at_line_start: bool,
    has_told_the_end: bool,
}

impl Cursor {
    /// What there is to be read now; `None` when there is nothing more.
    fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        if self.current.is_none() {
            if !self.begin()? {
                return Ok(None);
            }
            if let Some(told) = self.lost_beginning()? {
                return Ok(Some(told));
            }
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
                    if next > number + 1
                        && let Some(told) = self.lost_middle()?
                    {
                        return Ok(Some(told));
                    }
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

    /// What is said when the oldest part was removed and the reader wants some of it.
    fn lost_beginning(&mut self) -> io::Result<Option<Vec<u8>>> {
        let is_whole = self.current.as_ref().is_none_or(|(number, _)| *number == 0);
        if is_whole || !self.wants_beginning {
            return Ok(None);
        }
        self.lost_part("the beginning of this log was removed, because it was larger than logs may be")
    }

    /// What is said when a part was removed between the last file that was read and this one.
    fn lost_middle(&mut self) -> io::Result<Option<Vec<u8>>> {
        // What it had of a record does not go on.
        self.rest.clear();
        self.lost_part("a part of this log was removed here, because it was larger than logs may be")
    }

    /// Says it before the first line of the current file, unless the reader wants only what is newer.
    fn lost_part(&mut self, words: &str) -> io::Result<Option<Vec<u8>>> {
        let Some((_, file)) = &self.current else {
            return Ok(None);
        };
        let first = first_time(file)?;
        (&*file).seek(SeekFrom::Start(0))?;
        let at = match first {
            // No line has the same time.
            Some(time) => time - SignedDuration::from_nanos(1),
            None => Timestamp::try_from(file.metadata()?.modified()?).unwrap_or_default(),
        };
        if self.since.is_some_and(|since| at < since) {
            return Ok(None);
        }
        let mut told = if self.at_line_start || self.since.is_some() {
            Vec::new()
        } else {
            vec![b'\n']
        };
        self.at_line_start = true;
        told.extend(self.own_line(at, &format!("[k8s-cli: {words}]")));
        Ok(Some(told))
    }

    /// What is said, once, when the end could not be kept.
    fn lost_end(&mut self, folder: &Folder) -> Option<Vec<u8>> {
        let outcome = folder.outcome().filter(|outcome| outcome.lost_log_bytes > 0)?;
        if std::mem::replace(&mut self.has_told_the_end, true) {
            return None;
        }
        let mut line = if self.at_line_start { Vec::new() } else { vec![b'\n'] };
        line.extend(self.own_line(outcome.at, &gap(outcome.lost_log_bytes, "the disk was full")));
        Some(line)
    }

    fn own_line(&self, at: Timestamp, words: &str) -> Vec<u8> {
        let time = if self.timestamps {
            format!("{at:.9} ")
        } else {
            String::new()
        };
        format!("{time}{words}\n").into_bytes()
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

    /// A line that has begun before the time that was asked for goes on without a time, as the kubelet shows it: with the time of a
    /// part it would look like another line.
    fn show_record(&mut self, record: &Record<'_>, shown: &mut Vec<u8>) {
        if let Some(since) = self.since {
            if time_of(record).is_some_and(|time| time < since) {
                self.at_line_start = record.ends;
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use jiff::Timestamp;

    use super::Cursor;

    /// A log of files with one line each, which says its number; the second is its time.
    fn log(name: &str, numbers: &[u64]) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("k8s-cli-log-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        for number in numbers {
            write(&folder, *number);
        }
        folder
    }

    fn write(folder: &Path, number: u64) {
        let line = format!("2026-01-01T00:00:{number:02}.000000000Z stdout F line {number}\n");
        fs::write(folder.join(format!("{number:08}.log")), line).unwrap();
    }

    fn cursor(folder: &Path, since: Option<&str>, tail: Option<usize>) -> Cursor {
        Cursor {
            folder: folder.to_owned(),
            timestamps: false,
            since: since.map(|time| time.parse::<Timestamp>().unwrap()),
            tail,
            wants_beginning: tail.is_none(),
            current: None,
            rest: Vec::new(),
            at_line_start: true,
            has_told_the_end: false,
        }
    }

    fn rest(cursor: &mut Cursor) -> String {
        let mut all = Vec::new();
        while let Some(bytes) = cursor.read().unwrap() {
            all.extend(bytes);
        }
        String::from_utf8(all).unwrap()
    }

    const BEGINNING: &str =
        "[k8s-cli: the beginning of this log was removed, because it was larger than logs may be]\n";
    const MIDDLE: &str = "[k8s-cli: a part of this log was removed here, because it was larger than logs may be]\n";

    #[test]
    fn what_was_removed_is_told_where_it_is_missing_to_whoever_wants_it() {
        let folder = log("gaps", &[2, 3, 6]);
        let all = format!("{BEGINNING}line 2\nline 3\n{MIDDLE}line 6\n");
        assert_eq!(rest(&mut cursor(&folder, None, None)), all);
        // As everybody asks who comes again.
        assert_eq!(rest(&mut cursor(&folder, Some("2026-01-01T00:00:01Z"), None)), all);
        let expected = format!("line 3\n{MIDDLE}line 6\n");
        assert_eq!(rest(&mut cursor(&folder, Some("2026-01-01T00:00:03Z"), None)), expected);
        assert_eq!(
            rest(&mut cursor(&folder, Some("2026-01-01T00:00:06Z"), None)),
            "line 6\n"
        );
        assert_eq!(rest(&mut cursor(&folder, None, Some(1))), "line 6\n");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn the_rest_of_a_line_that_began_before_is_no_line_of_its_own() {
        let folder = log("rest", &[]);
        let lines = "2026-01-01T00:00:01.000000000Z stdout P 10 %\n2026-01-01T00:00:03.000000000Z stdout P 20 %\n\
                     2026-01-01T00:00:04.000000000Z stdout F \n2026-01-01T00:00:05.000000000Z stdout F next\n";
        fs::write(folder.join("00000000.log"), lines).unwrap();
        let mut late = cursor(&folder, Some("2026-01-01T00:00:02Z"), None);
        late.timestamps = true;
        assert_eq!(rest(&mut late), "20 %\n2026-01-01T00:00:05.000000000Z next\n");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_part_that_is_removed_while_somebody_follows_is_told() {
        let folder = log("follow", &[0]);
        let mut cursor = cursor(&folder, None, None);
        assert_eq!(rest(&mut cursor), "line 0\n");
        fs::remove_file(folder.join("00000000.log")).unwrap();
        write(&folder, 4);
        assert_eq!(rest(&mut cursor), format!("{MIDDLE}line 4\n"));
        fs::remove_dir_all(folder).unwrap();
    }
}
