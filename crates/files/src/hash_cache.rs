//! What files had in them when they were last read, so that those which have not changed are not read again.
//!
//! A file is unchanged if its size, its times, and its number are. A file that was written at about the time when it
//! was read may be written again in the same tick of the clock, so it is not remembered: git calls that racy.
//!
//! The cache is a file of JSON lines: a line for a folder, then one for each file in it. It can be deleted at any time.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::io::{BufWriter, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use crate::content::{Content, fault_of};
use crate::entry_path::EntryPath;
use crate::error::Error;
use crate::selection::Stamp;
use crate::text;

/// The first line: the version of the format.
const HEADER: &str = "{\"hash_cache\":1}";

/// A file that changed less than this before it was read is not remembered. The clocks of file systems tick at least
/// every two seconds.
const RACY: Duration = Duration::from_secs(2);

/// Folders that nobody took along for this long are forgotten.
const MAX_AGE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// A larger cache is neither written nor read: it would take longer than many a folder. It has room for about a million
/// files.
const MAX_BYTES: u64 = 256 << 20;

/// What files had in them when they were last read.
#[derive(Debug)]
pub struct HashCache {
    path: PathBuf,
    folders: HashMap<PathBuf, Folder>,
}

/// The files of a folder, or a file by itself.
#[derive(Debug, Default)]
pub(crate) struct Folder {
    /// When it was last taken along, in seconds since 1970.
    used: u64,
    files: HashMap<EntryPath, (Stamp, Vec<Content>)>,
}

/// A line of the file.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line<'a> {
    Folder(String, u64),
    File(String, Stamp, Cow<'a, [Content]>),
}

impl HashCache {
    /// Reads the cache at this path. One that is absent, damaged, or of another version is empty.
    #[must_use]
    pub fn open(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let is_readable = fs::metadata(&path).is_ok_and(|metadata| metadata.is_file() && metadata.len() <= MAX_BYTES);
        let text = if is_readable {
            fs::read_to_string(&path).ok()
        } else {
            None
        };
        let folders = text.and_then(|text| parse(&text)).unwrap_or_default();
        Self { path, folders }
    }

    /// Writes the cache, without folders that were not used for 30 days. Readers see the old one or the new one.
    ///
    /// # Errors
    ///
    /// If the file or its folder cannot be written. Nothing depends on it but time.
    pub fn save(&self) -> Result<(), Error> {
        let failed = |source| Error::Io {
            action: "write",
            path: self.path.clone(),
            source,
        };
        let folder = self
            .path
            .parent()
            .filter(|parent| *parent != Path::new(""))
            .unwrap_or(Path::new("."));
        fs::create_dir_all(folder).map_err(failed)?;
        // Only its owner may read it: it has the names of all their files.
        let mut file = NamedTempFile::new_in(folder).map_err(failed)?;
        self.write(&mut file).map_err(failed)?;
        file.persist(&self.path).map_err(|error| failed(error.error))?;
        Ok(())
    }

    fn write(&self, file: impl Write) -> std::io::Result<()> {
        let mut file = BufWriter::new(file);
        writeln!(file, "{HEADER}")?;
        let oldest = now().saturating_sub(MAX_AGE).as_secs();
        let mut folders: Vec<_> = self
            .folders
            .iter()
            .filter(|(_, folder)| folder.used >= oldest)
            .collect();
        folders.sort_by_key(|(_, folder)| Reverse(folder.used));
        let mut room = MAX_BYTES - HEADER.len() as u64 - 1;
        for (root, folder) in folders {
            let mut lines = Vec::new();
            write_line(&mut lines, &Line::Folder(encode(root), folder.used))?;
            for (path, (stamp, contents)) in &folder.files {
                write_line(&mut lines, &Line::File(path.to_string(), *stamp, contents.into()))?;
            }
            // A larger cache would not be read, so the folders that were used last are kept.
            let Some(rest) = room.checked_sub(lines.len() as u64) else {
                break;
            };
            room = rest;
            file.write_all(&lines)?;
        }
        file.flush()
    }

    /// What is remembered of this folder.
    pub(crate) fn folder(&self, root: &Path) -> Option<&Folder> {
        self.folders.get(root)
    }

    /// Remembers this of a folder, and nothing that was remembered of it before.
    pub(crate) fn replace(&mut self, root: PathBuf, mut folder: Folder) {
        folder.used = now().as_secs();
        self.folders.insert(root, folder);
    }
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

fn write_line(file: &mut impl Write, line: &Line<'_>) -> std::io::Result<()> {
    serde_json::to_writer(&mut *file, line)?;
    file.write_all(b"\n")
}

fn encode(root: &Path) -> String {
    text::encode(root.as_os_str().as_bytes())
}

/// `None` if anything is wrong: a damaged cache is not worth guessing.
fn parse(text: &str) -> Option<HashMap<PathBuf, Folder>> {
    let mut lines = text.lines();
    if lines.next() != Some(HEADER) {
        return None;
    }
    let mut folders = HashMap::new();
    let mut current: Option<(PathBuf, Folder)> = None;
    for line in lines {
        match serde_json::from_str(line).ok()? {
            Line::Folder(root, used) => {
                let root = PathBuf::from(OsString::from_vec(text::decode(&root)?));
                let files = HashMap::new();
                folders.extend(current.replace((root, Folder { used, files })));
            }
            Line::File(path, stamp, contents) => {
                let size: u64 = contents.iter().map(|content| u64::from(content.length())).sum();
                if fault_of(&contents).is_some() || size != stamp.size {
                    return None;
                }
                let (_, folder) = current.as_mut()?;
                folder.files.insert(path.parse().ok()?, (stamp, contents.into_owned()));
            }
        }
    }
    folders.extend(current);
    Some(folders)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::time::Duration;

    use super::{Content, EntryPath, Folder, HashCache, MAX_AGE, Stamp, now};

    const STAMP: Stamp = Stamp {
        size: 1,
        modified_ns: 5_000_000_000,
        changed_ns: 6_000_000_000,
        inode: 7,
    };

    fn folder(read_at: Duration) -> (EntryPath, Folder) {
        let path = EntryPath::new(b"a\xff%".as_slice()).unwrap();
        let mut folder = Folder::default();
        folder.put(path.clone(), STAMP, vec![Content::of(b"x").unwrap()], read_at);
        (path, folder)
    }

    #[test]
    fn a_file_is_known_as_long_as_nothing_of_it_changes() {
        let (path, folder) = folder(Duration::from_secs(8));
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
    fn a_file_that_may_change_in_the_same_tick_is_not_remembered() {
        for (read_at, known) in [(6_000, false), (7_999, false), (8_000, true), (1_000, false)] {
            let (path, folder) = folder(Duration::from_millis(read_at));
            assert_eq!(folder.get(&path, &STAMP).is_some(), known, "{read_at}");
        }
    }

    #[test]
    fn the_cache_is_read_as_it_was_written_and_old_folders_are_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("new/cache");
        let mut cache = HashCache::open(&file);
        let (path, known) = folder(Duration::from_secs(8));
        cache.replace("/home/a b\n".into(), known);
        cache.replace("/home/old".into(), folder(Duration::from_secs(8)).1);
        cache.folders.get_mut(Path::new("/home/old")).unwrap().used = (now() - MAX_AGE).as_secs() - 1;
        cache.save().unwrap();
        let cache = HashCache::open(&file);
        let known = cache.folder(Path::new("/home/a b\n")).unwrap();
        assert_eq!(known.get(&path, &STAMP), Some(&[Content::of(b"x").unwrap()][..]));
        assert!(cache.folder(Path::new("/home/old")).is_none());
    }

    #[test]
    fn a_damaged_cache_is_empty() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("cache");
        let mut cache = HashCache::open(&file);
        cache.replace("/x".into(), folder(Duration::from_secs(8)).1);
        cache.save().unwrap();
        let bytes = fs::read(&file).unwrap();
        for damaged in [
            &bytes[..bytes.len() - 3],
            &bytes[3..],
            b"",
            b"{\"hash_cache\":2}\n",
            b"\xff",
        ] {
            fs::write(&file, damaged).unwrap();
            assert!(HashCache::open(&file).folders.is_empty());
        }
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        assert!(HashCache::open(&file).folders.is_empty());
    }
}
