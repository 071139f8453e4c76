//! What files had in them when they were last read, so that those which have not changed are not read again.
//!
//! A file is unchanged if its size, its times, and its number are. A file that was written shortly before it was read may
//! be written again without a new time, so it is not remembered: git calls that racy.
//!
//! The cache is a folder with a file for each folder that was read, so that a large one does not slow the others: a line
//! of JSON for the folder, then one for each file in it. All of it can be deleted at any time.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use crate::content::{Content, fault_of};
use crate::entry_path::EntryPath;
use crate::hash::ContentHash;
use crate::selection::Stamp;
use crate::text;

/// The first line: the version of the format.
const HEADER: &str = "{\"hash_cache\":2}";

/// A file that changed less than this before it was read is not remembered. What a program writes to a mapped file may
/// get its time when the system writes it to the disk, 30 seconds later.
const RACY: Duration = Duration::from_secs(60);

/// Folders that nobody used for this long are forgotten.
const MAX_AGE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// How old the time of a file of the cache may be that is used and does not change.
const USED_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);

/// The largest file of the cache. It has room for about 250,000 files; those beyond are read again.
const MAX_BYTES: u64 = 64 << 20;

/// What files had in them when they were last read.
#[derive(Debug)]
pub struct HashCache {
    /// `None` if nothing is remembered.
    directory: Option<PathBuf>,
}

/// The files of a folder, or a file by itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Folder {
    files: HashMap<EntryPath, (Stamp, Vec<Content>)>,
}

/// A line of a file.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line<'a> {
    Folder(String),
    File(String, Stamp, Cow<'a, [Content]>),
}

impl HashCache {
    /// The cache in this directory, which need not exist. Nothing depends on it but time, so that no failure to read or
    /// write it is an error.
    #[must_use]
    pub fn open(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: Some(directory.into()),
        }
    }

    /// A cache that remembers nothing.
    #[must_use]
    pub fn none() -> Self {
        Self { directory: None }
    }

    /// Whether this was not the last thing to be noted of a folder; notes it. So what is said of a folder is not said again
    /// while it stays true.
    #[must_use]
    pub fn is_news(&self, root: &Path, what: &str) -> bool {
        let (Some(directory), Some(file)) = (&self.directory, self.file_of(root)) else {
            return true;
        };
        let file = file.with_extension("note");
        if fs::read(&file).is_ok_and(|known| known == what.as_bytes()) {
            let _ = touch(&file);
            return false;
        }
        // Without it, it is said again next time.
        let _ = write(directory, &file, |lines| lines.write_all(what.as_bytes()));
        true
    }

    /// Forgets this folder or file, e.g., because a file in it changed without a new time.
    pub fn forget(&self, root: &Path) {
        if let Some(file) = self.file_of(root) {
            let _ = fs::remove_file(file);
        }
    }

    fn file_of(&self, root: &Path) -> Option<PathBuf> {
        let name = ContentHash::of(root.as_os_str().as_bytes()).to_string();
        Some(self.directory.as_ref()?.join(name))
    }

    /// What is remembered of this folder. If that is damaged or of another version, it is nothing.
    pub(crate) fn load(&self, root: &Path) -> Folder {
        let read = |file: PathBuf| parse(File::open(file).ok()?, root);
        self.file_of(root).and_then(read).unwrap_or_default()
    }

    /// Remembers `now` of this folder, of which `before` is remembered.
    pub(crate) fn store(&self, root: &Path, before: &Folder, now: &Folder) {
        let (Some(directory), Some(file)) = (&self.directory, self.file_of(root)) else {
            return;
        };
        let kept = if before == now && file.is_file() {
            touch(&file)
        } else {
            write(directory, &file, |lines| write_folder(lines, root, now))
        };
        // Without it, the files are read again next time.
        let _ = kept.and_then(|()| prune(directory));
    }
}

/// Keeps the time of the last use, roughly.
fn touch(file: &Path) -> io::Result<()> {
    let used = fs::metadata(file)?.modified()?;
    if used.elapsed().is_ok_and(|age| age > USED_INTERVAL) {
        File::options()
            .append(true)
            .open(file)?
            .set_modified(SystemTime::now())?;
    }
    Ok(())
}

/// Readers see the old file or the new one.
fn write(directory: &Path, place: &Path, content: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    // Only its owner may read it: it has the names of all their files.
    let mut file = NamedTempFile::new_in(directory)?;
    let mut lines = BufWriter::new(&mut file);
    content(&mut lines)?;
    lines.flush()?;
    drop(lines);
    file.persist(place).map_err(|error| error.error)?;
    Ok(())
}

fn write_folder(lines: &mut dyn Write, root: &Path, folder: &Folder) -> io::Result<()> {
    writeln!(lines, "{HEADER}")?;
    lines.write_all(&line_of(&Line::Folder(encode(root)))?)?;
    let mut room = MAX_BYTES;
    for (path, (stamp, contents)) in &folder.files {
        let line = line_of(&Line::File(path.to_string(), *stamp, contents.into()))?;
        let Some(rest) = room.checked_sub(line.len() as u64) else {
            break;
        };
        room = rest;
        lines.write_all(&line)?;
    }
    Ok(())
}

/// Deletes what nobody used for long, and what a run has left that was killed.
fn prune(directory: &Path) -> io::Result<()> {
    for item in fs::read_dir(directory)? {
        let item = item?;
        let used = item.metadata()?.modified()?;
        if used.elapsed().is_ok_and(|age| age > MAX_AGE) {
            fs::remove_file(item.path())?;
        }
    }
    Ok(())
}

impl Folder {
    /// The contents of a file that has not changed.
    pub(crate) fn get(&self, path: &EntryPath, stamp: &Stamp) -> Option<&[Content]> {
        let (known, contents) = self.files.get(path)?;
        (known == stamp).then_some(contents)
    }

    /// Remembers what was known already.
    pub(crate) fn keep(&mut self, path: EntryPath, stamp: Stamp, contents: Vec<Content>) {
        self.files.insert(path, (stamp, contents));
    }

    /// Remembers a file that was read after this time, unless it may change unnoticed.
    pub(crate) fn put(&mut self, path: EntryPath, stamp: Stamp, contents: Vec<Content>, read_at: Duration) {
        let newest = i128::from(stamp.modified_ns.max(stamp.changed_ns));
        if newest + as_ns(RACY) <= as_ns(read_at) {
            self.keep(path, stamp, contents);
        }
    }
}

/// The time since 1970.
pub(crate) fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn as_ns(duration: Duration) -> i128 {
    i128::try_from(duration.as_nanos()).unwrap_or(i128::MAX)
}

fn line_of(line: &Line<'_>) -> io::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(line)?;
    bytes.push(b'\n');
    Ok(bytes)
}

fn encode(root: &Path) -> String {
    text::encode(root.as_os_str().as_bytes())
}

/// `None` if anything is wrong: a damaged cache is not worth guessing.
fn parse(file: File, root: &Path) -> Option<Folder> {
    // Somebody may have put another file there.
    let mut lines = BufReader::new(file.take(2 * MAX_BYTES)).lines();
    if lines.next()?.ok()? != HEADER {
        return None;
    }
    match serde_json::from_str(&lines.next()?.ok()?).ok()? {
        Line::Folder(named) if OsString::from_vec(text::decode(&named)?) == root => {}
        _ => return None,
    }
    let mut folder = Folder::default();
    for line in lines {
        let line = line.ok()?;
        let Line::File(path, stamp, contents) = serde_json::from_str(&line).ok()? else {
            return None;
        };
        let size: u64 = contents.iter().map(|content| u64::from(content.length())).sum();
        if fault_of(&contents).is_some() || size != stamp.size {
            return None;
        }
        folder.files.insert(path.parse().ok()?, (stamp, contents.into_owned()));
    }
    Some(folder)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::path::Path;
    use std::time::{Duration, SystemTime};

    use super::{Content, EntryPath, Folder, HashCache, MAX_AGE, Stamp};

    const STAMP: Stamp = Stamp {
        size: 1,
        modified_ns: 5_000_000_000,
        changed_ns: 6_000_000_000,
        inode: 7,
    };

    const LATE: Duration = Duration::from_secs(66);

    fn folder(read_at: Duration) -> (EntryPath, Folder) {
        let path = EntryPath::new(b"a\xff%".as_slice()).unwrap();
        let mut folder = Folder::default();
        folder.put(path.clone(), STAMP, vec![Content::of(b"x").unwrap()], read_at);
        (path, folder)
    }

    #[test]
    fn a_file_is_known_as_long_as_nothing_of_it_changes() {
        let (path, folder) = folder(LATE);
        assert!(folder.get(&path, &STAMP).is_some());
        for other in [
            Stamp { size: 2, ..STAMP },
            Stamp {
                modified_ns: 1,
                ..STAMP
            },
            Stamp { changed_ns: 1, ..STAMP },
            Stamp { inode: 1, ..STAMP },
        ] {
            assert!(folder.get(&path, &other).is_none());
        }
    }

    #[test]
    fn a_file_that_may_change_without_a_new_time_is_not_remembered() {
        for (read_at, known) in [(6, false), (36, false), (65, false), (66, true), (1, false)] {
            let (path, folder) = folder(Duration::from_secs(read_at));
            assert_eq!(folder.get(&path, &STAMP).is_some(), known, "{read_at}");
        }
    }

    #[test]
    fn each_folder_has_a_file_that_is_written_only_if_something_changed() {
        let dir = tempfile::tempdir().unwrap();
        let cache = HashCache::open(dir.path().join("new/cache"));
        let (one, two) = (Path::new("/home/a b\n"), Path::new("/home/two"));
        let (path, known) = folder(LATE);
        let knows = |root: &Path| cache.file_of(root).unwrap().is_file();
        assert!(!knows(one));
        cache.store(one, &Folder::default(), &known);
        assert!(knows(one) && !knows(two));
        assert_eq!(cache.load(two), Folder::default());
        let read = cache.load(one);
        assert_eq!(read.get(&path, &STAMP), Some(&[Content::of(b"x").unwrap()][..]));

        let file = cache.file_of(one).unwrap();
        let set_age = |age| {
            let time = SystemTime::now() - age;
            File::options()
                .append(true)
                .open(&file)
                .unwrap()
                .set_modified(time)
                .unwrap();
            fs::metadata(&file).unwrap().modified().unwrap()
        };
        let time = set_age(Duration::from_secs(3600));
        cache.store(one, &read, &known);
        assert_eq!(fs::metadata(&file).unwrap().modified().unwrap(), time, "not written");
        set_age(MAX_AGE * 2);
        cache.store(one, &read, &known);
        assert!(knows(one), "it is used");
        set_age(MAX_AGE * 2);
        cache.store(two, &Folder::default(), &Folder::default());
        assert!(!knows(one) && knows(two), "nobody used it");
        cache.forget(two);
        assert!(!knows(two));
    }

    #[test]
    fn what_is_noted_of_a_folder_is_news_once_and_when_it_changes() {
        let dir = tempfile::tempdir().unwrap();
        let cache = HashCache::open(dir.path().join("new"));
        let (one, two) = (Path::new("/one"), Path::new("/two"));
        let news = [(one, "a"), (one, "a"), (two, "a"), (one, "b"), (one, "b"), (one, "a")];
        let expected = [true, false, true, true, false, true];
        assert_eq!(news.map(|(root, what)| cache.is_news(root, what)), expected);
    }

    #[test]
    fn a_damaged_cache_is_empty() {
        let dir = tempfile::tempdir().unwrap();
        let cache = HashCache::open(dir.path());
        let (root, known) = (Path::new("/x"), folder(LATE).1);
        cache.store(root, &Folder::default(), &known);
        let file = cache.file_of(root).unwrap();
        let bytes = fs::read(&file).unwrap();
        assert_eq!(cache.load(root), known);
        for damaged in [
            &bytes[..bytes.len() - 3],
            &bytes[3..],
            b"",
            b"{\"hash_cache\":1}\n",
            b"\xff",
        ] {
            fs::write(&file, damaged).unwrap();
            assert_eq!(cache.load(root), Folder::default());
        }
        // The file of another folder.
        fs::write(cache.file_of(Path::new("/y")).unwrap(), &bytes).unwrap();
        assert_eq!(cache.load(Path::new("/y")), Folder::default());
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        assert_eq!(cache.load(root), Folder::default());
    }

    #[test]
    fn nothing_is_written_without_a_directory() {
        let cache = HashCache::none();
        let (_, known) = folder(LATE);
        cache.store(Path::new("/x"), &Folder::default(), &known);
        assert_eq!(cache.load(Path::new("/x")), Folder::default());
        assert!(cache.is_news(Path::new("/x"), "a") && cache.is_news(Path::new("/x"), "a"));
    }
}
