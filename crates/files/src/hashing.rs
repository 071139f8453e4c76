//! Makes the manifest of a selection: reads the files that changed, on a few threads.

use std::fs::File;
use std::io::{Read, Seek};
use std::num::NonZero;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::content::{Content, MAX_CONTENT, split};
use crate::entry::{Entry, EntryKind};
use crate::entry_path::EntryPath;
use crate::error::Error;
use crate::hash_cache::{Folder, HashCache, now};
use crate::heaviest::Weight;
use crate::manifest::{Manifest, NAMED_PATHS};
use crate::selection::{Found, FoundKind, Root, Selection, Since, Stamp, open, since};

/// The shortest line of a manifest, `{"path":"","kind":"link","target":""}`, and the shortest content in one, `["HASH",1]`.
const LEAST_LINE: usize = 38;
const LEAST_CONTENT: usize = 70;

/// More threads would not read much faster, and each may have about 16 MiB of a large file in memory.
const MAX_THREADS: usize = 4;

/// How much of the files is done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// The number of files that are done.
    pub files: usize,
    /// The bytes that are done, those of files in progress included.
    pub bytes: u64,
}

/// A file of the selection.
struct Task<'a> {
    /// Its place among the entries.
    index: usize,
    path: &'a EntryPath,
    stamp: &'a Stamp,
}

/// What was read of a file.
#[derive(Debug, Clone)]
enum Reading {
    /// It is no longer there.
    Gone,
    /// All of it.
    Whole(Vec<Content>),
    /// As much of it as there was; there is more now.
    Start(Vec<Content>),
}

/// What the threads share.
struct Shared<'a> {
    selection: &'a Selection,
    tasks: Vec<Task<'a>>,
    next: AtomicUsize,
    failed: AtomicBool,
    progress: Mutex<(Progress, &'a mut (dyn FnMut(Progress) + Send))>,
}

impl Selection {
    /// Reads the files that `cache` does not know, and remembers them there. `progress` is called now and then, from
    /// any thread, one call at a time.
    ///
    /// A file of a folder that is gone since the walk is not in the manifest, and one that is longer now is as long there
    /// as it was.
    ///
    /// # Errors
    ///
    /// If a file cannot be read, or has changed since the walk. If the manifest is larger than the limits allow.
    pub fn manifest(&self, cache: &HashCache, progress: impl FnMut(Progress) + Send) -> Result<Manifest, Error> {
        self.manifest_at(now(), cache, progress)
    }

    /// The manifest, read at this time since 1970.
    fn manifest_at(
        &self,
        read_at: Duration,
        cache: &HashCache,
        mut progress: impl FnMut(Progress) + Send,
    ) -> Result<Manifest, Error> {
        // Reading all files may take long.
        self.check_manifest(self.least_manifest())?;
        let known = cache.load(self.root_path());
        let mut readings: Vec<Reading> = vec![Reading::Gone; self.entries().len()];
        let mut remembered = Folder::default();
        let mut done = Progress::default();
        let mut tasks = Vec::new();
        for (index, entry) in self.entries().iter().enumerate() {
            let FoundKind::File { stamp, .. } = &entry.kind else {
                continue;
            };
            match known.get(&entry.path, stamp) {
                Some(known) => {
                    remembered.keep(entry.path.clone(), *stamp, known.to_vec());
                    readings[index] = Reading::Whole(known.to_vec());
                    done.files += 1;
                    done.bytes += stamp.size;
                }
                None => tasks.push(Task {
                    index,
                    path: &entry.path,
                    stamp,
                }),
            }
        }
        progress(done);
        // The largest file begins first, so that it is not the one that all wait for.
        tasks.sort_by_key(|task| std::cmp::Reverse(task.stamp.size));
        let shared = Shared {
            selection: self,
            tasks,
            next: AtomicUsize::new(0),
            failed: AtomicBool::new(false),
            progress: Mutex::new((done, &mut progress)),
        };
        for (task, reading) in shared.run()? {
            let task = &shared.tasks[task];
            if let Reading::Whole(contents) = &reading {
                remembered.put(task.path.clone(), *task.stamp, contents.clone(), read_at);
            }
            readings[task.index] = reading;
        }
        cache.store(self.root_path(), &known, &remembered);
        self.checked(readings)
    }

    /// The folder or file itself, without links: what a cache knows the selection by.
    #[must_use]
    pub fn root_path(&self) -> &Path {
        match &self.root {
            Root::Folder(place) | Root::File(place) => place,
        }
    }

    fn checked(&self, readings: Vec<Reading>) -> Result<Manifest, Error> {
        let mut entries = Vec::with_capacity(readings.len());
        for (found, reading) in self.entries().iter().zip(readings) {
            let kind = match &found.kind {
                FoundKind::Directory { mode } => EntryKind::Directory { mode: *mode },
                FoundKind::Link { target } => EntryKind::Link { target: target.clone() },
                FoundKind::File { mode, stamp } => match reading {
                    Reading::Gone => continue,
                    Reading::Whole(contents) | Reading::Start(contents) => EntryKind::File {
                        mode: *mode,
                        mtime: Some(stamp.mtime()),
                        contents,
                    },
                },
            };
            let path = found.path.clone();
            entries.push(Entry { path, kind });
        }
        let manifest = Manifest::new(entries)?;
        self.check_manifest(manifest.encode().len())?;
        Ok(manifest)
    }

    fn check_manifest(&self, bytes: usize) -> Result<(), Error> {
        let limit = self.limits.max_manifest_bytes;
        if bytes <= limit {
            return Ok(());
        }
        let heaviest = self.heaviest(NAMED_PATHS, Weight::Entries);
        Err(Error::ManifestTooLarge { limit, heaviest })
    }

    /// How many bytes the manifest has at least: what is in every line, the path, and the hash of each content.
    fn least_manifest(&self) -> usize {
        let bytes = |entry: &Found| {
            let contents = entry.size().div_ceil(MAX_CONTENT as u64) as usize;
            LEAST_LINE + entry.path.as_bytes().len() + contents * LEAST_CONTENT
        };
        self.entries().iter().map(bytes).sum()
    }
}

impl Shared<'_> {
    /// What was read of all files, by the places of their tasks.
    fn run(&self) -> Result<Vec<(usize, Reading)>, Error> {
        let threads = thread::available_parallelism().map_or(1, NonZero::get);
        let threads = threads.min(MAX_THREADS).min(self.tasks.len());
        if threads <= 1 {
            return self.work();
        }
        thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(|| self.work())).collect();
            let mut all = Vec::with_capacity(self.tasks.len());
            for worker in workers {
                match worker.join() {
                    Ok(done) => all.extend(done?),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            Ok(all)
        })
    }

    fn work(&self) -> Result<Vec<(usize, Reading)>, Error> {
        let mut done = Vec::new();
        while !self.failed.load(Ordering::Relaxed) {
            let at = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(task) = self.tasks.get(at) else {
                break;
            };
            match self.read(task) {
                Ok(reading) => done.push((at, reading)),
                Err(error) => {
                    self.failed.store(true, Ordering::Relaxed);
                    return Err(error);
                }
            }
        }
        Ok(done)
    }

    fn read(&self, task: &Task<'_>) -> Result<Reading, Error> {
        let place = self.selection.place(task.path);
        let changed = || Error::Changed { path: place.clone() };
        let Some(mut file) = open(&place)? else {
            return match self.selection.root {
                // A temporary file is as good as never there.
                Root::Folder(_) => Ok(Reading::Gone),
                Root::File(_) => Err(changed()),
            };
        };
        let before = since(&file, &place, task.stamp)?;
        if before == Since::Other {
            return Err(changed());
        }
        let contents = self.split(&file, &place, task.stamp)?;
        let size: u64 = contents.iter().map(|content| u64::from(content.length())).sum();
        let after = since(&file, &place, task.stamp)?;
        if after == Since::Other || size != task.stamp.size {
            return Err(changed());
        }
        if (before, after) == (Since::Same, Since::Same) {
            self.tell(1, contents.last().map_or(0, |content| u64::from(content.length())));
            return Ok(Reading::Whole(contents));
        }
        // Whether something was only added is not told by the times. If a second reading agrees, nothing else was.
        file.rewind().map_err(Error::io("read", &place))?;
        let mut again = Vec::new();
        split((&file).take(size), |content, _| again.push(content)).map_err(Error::io("read", &place))?;
        if again != contents {
            return Err(changed());
        }
        self.tell(1, contents.last().map_or(0, |content| u64::from(content.length())));
        Ok(Reading::Start(contents))
    }

    /// The contents of a file, up to the size that it had.
    fn split(&self, file: &File, place: &Path, stamp: &Stamp) -> Result<Vec<Content>, Error> {
        let mut contents = Vec::new();
        let mut size = 0;
        split(file.take(stamp.size), |content, bytes| {
            size += bytes.len() as u64;
            contents.push(content);
            // The last one is told together with the file.
            if size < stamp.size {
                self.tell(0, bytes.len() as u64);
            }
        })
        .map_err(Error::io("read", place))?;
        Ok(contents)
    }

    fn tell(&self, files: usize, bytes: u64) {
        let mut guard = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        let (done, tell) = &mut *guard;
        done.files += files;
        done.bytes += bytes;
        tell(*done);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use crate::hash_cache::now;
    use crate::{Error, HashCache, Limits, Progress, Walk};

    #[test]
    fn files_that_have_not_changed_are_not_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("folder");
        fs::create_dir(&folder).unwrap();
        for name in ["a", "b"] {
            fs::write(folder.join(name), name).unwrap();
        }
        let limits = Limits {
            max_entries: 10,
            max_total_bytes: 100,
            max_manifest_bytes: 1 << 20,
        };
        let walk = Walk {
            limits,
            everything: false,
        };
        let cache = HashCache::open(dir.path().join("cache"));
        let hash = |seconds| {
            let mut first = None;
            let selection = walk.folder(&folder).unwrap();
            let read_at = now() + Duration::from_secs(seconds);
            let progress = |progress: Progress| first = first.or(Some(progress.files));
            let manifest = selection.manifest_at(read_at, &cache, progress).unwrap();
            (manifest.hash(), first)
        };
        // What was written just now may be written again at the same time.
        let (before, known) = hash(0);
        assert_eq!(known, Some(0));
        assert_eq!(hash(50), (before, Some(0)));
        assert_eq!(hash(100), (before, Some(0)));
        assert_eq!(hash(100), (before, Some(2)));
        fs::write(folder.join("b"), "c").unwrap();
        let (after, known) = hash(100);
        assert_eq!(known, Some(1));
        assert_ne!(after, before);
        cache.forget(&folder.canonicalize().unwrap());
        assert_eq!(hash(100), (after, Some(0)));
    }

    #[test]
    fn a_manifest_that_is_too_large_is_refused_before_files_are_read_and_what_has_most_of_it_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("many")).unwrap();
        for number in 0..30 {
            fs::write(dir.path().join(format!("many/{number}")), "x").unwrap();
        }
        let walk = |max_manifest_bytes| Walk {
            limits: Limits {
                max_manifest_bytes,
                ..Limits::NONE
            },
            everything: false,
        };
        let read = |max_manifest_bytes| {
            let mut is_read = false;
            let selection = walk(max_manifest_bytes).folder(dir.path()).unwrap();
            let manifest = selection.manifest(&HashCache::none(), |_| is_read = true);
            (manifest, is_read)
        };
        let size = read(1 << 20).0.unwrap().encode().len();
        assert!(read(size).0.is_ok());
        // Only the result shows that it is a byte too large.
        for (limit, expected) in [(size - 1, true), (size / 2, false)] {
            let (refused, is_read) = read(limit);
            let error = refused.unwrap_err();
            assert!(matches!(error, Error::ManifestTooLarge { .. }), "{error}");
            assert!(
                error
                    .to_string()
                    .contains("; the largest are `many/` (30 B in 31 entries)"),
                "{error}"
            );
            assert_eq!(is_read, expected);
        }
    }
}
