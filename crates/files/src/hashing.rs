//! Makes the manifest of a selection: reads the files that changed, on a few threads.

use std::num::NonZero;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::content::{Content, split};
use crate::entry::{Entry, EntryKind};
use crate::entry_path::EntryPath;
use crate::error::Error;
use crate::hash_cache::{Folder, HashCache, now};
use crate::manifest::Manifest;
use crate::selection::{FoundKind, Root, Selection, Stamp, check_unchanged, open};

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
    /// # Errors
    ///
    /// If a file cannot be read, or has changed since the walk. If the manifest is larger than the limits allow.
    pub fn manifest(
        &self,
        cache: &mut HashCache,
        mut progress: impl FnMut(Progress) + Send,
    ) -> Result<Manifest, Error> {
        let root = self.cache_key();
        let mut contents: Vec<Option<Vec<Content>>> = vec![None; self.entries().len()];
        let mut remembered = Folder::default();
        let mut done = Progress::default();
        let mut tasks = Vec::new();
        for (index, entry) in self.entries().iter().enumerate() {
            let FoundKind::File { stamp, .. } = &entry.kind else {
                continue;
            };
            match cache.folder(&root).and_then(|folder| folder.get(&entry.path, stamp)) {
                Some(known) => {
                    remembered.keep(entry.path.clone(), *stamp, known.to_vec());
                    contents[index] = Some(known.to_vec());
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
        let read_at = now();
        let shared = Shared {
            selection: self,
            tasks,
            next: AtomicUsize::new(0),
            failed: AtomicBool::new(false),
            progress: Mutex::new((done, &mut progress)),
        };
        for (task, read) in shared.run()? {
            let task = &shared.tasks[task];
            remembered.put(task.path.clone(), *task.stamp, read.clone(), read_at);
            contents[task.index] = Some(read);
        }
        cache.replace(root, remembered);
        self.checked(contents)
    }

    /// What the cache knows the selection by.
    fn cache_key(&self) -> PathBuf {
        match &self.root {
            Root::Folder(place) | Root::File(place) => place.clone(),
        }
    }

    fn checked(&self, contents: Vec<Option<Vec<Content>>>) -> Result<Manifest, Error> {
        let entries = self.entries().iter().zip(contents).map(|(found, contents)| Entry {
            path: found.path.clone(),
            kind: match &found.kind {
                FoundKind::Directory { mode } => EntryKind::Directory { mode: *mode },
                FoundKind::Link { target } => EntryKind::Link { target: target.clone() },
                FoundKind::File { mode, stamp } => EntryKind::File {
                    mode: *mode,
                    mtime: Some(stamp.mtime()),
                    contents: contents.unwrap_or_default(),
                },
            },
        });
        let manifest = Manifest::new(entries.collect())?;
        let limit = self.limits.max_manifest_bytes;
        if manifest.encode().len() > limit {
            return Err(Error::ManifestTooLarge { limit });
        }
        Ok(manifest)
    }
}

impl Shared<'_> {
    /// The contents of all tasks, by their places.
    fn run(&self) -> Result<Vec<(usize, Vec<Content>)>, Error> {
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

    fn work(&self) -> Result<Vec<(usize, Vec<Content>)>, Error> {
        let mut done = Vec::new();
        while !self.failed.load(Ordering::Relaxed) {
            let at = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(task) = self.tasks.get(at) else {
                break;
            };
            match self.read(task) {
                Ok(contents) => done.push((at, contents)),
                Err(error) => {
                    self.failed.store(true, Ordering::Relaxed);
                    return Err(error);
                }
            }
        }
        Ok(done)
    }

    fn read(&self, task: &Task<'_>) -> Result<Vec<Content>, Error> {
        let place = self.selection.place(task.path);
        let file = open(&place, task.stamp)?;
        let mut contents = Vec::new();
        let mut size = 0;
        split(&file, |content, bytes| {
            size += bytes.len() as u64;
            contents.push(content);
            // The last one is told together with the file.
            if size < task.stamp.size {
                self.tell(0, bytes.len() as u64);
            }
        })
        .map_err(Error::io("read", &place))?;
        check_unchanged(&file, &place, task.stamp)?;
        if size != task.stamp.size {
            return Err(Error::Changed { path: place });
        }
        self.tell(1, contents.last().map_or(0, |content| u64::from(content.length())));
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
