//! Writes a manifest to a folder.
//!
//! Every step is made from the handle of the folder before it, and no step follows a link. So nothing outside of the
//! folder is written, whatever anybody puts into it meanwhile.

use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Dir, Mode as FileMode, OFlags, Timespec, Timestamps, UTIME_NOW};
use rustix::io::Errno;

use crate::content::Content;
use crate::contents::Contents;
use crate::entry::{Entry, EntryKind, Mode};
use crate::entry_path::EntryPath;
use crate::error::Error;
use crate::hashing::Progress;
use crate::manifest::Manifest;
use crate::mtime::Mtime;
use crate::partial::{NEW_FILE, Present, Writing};

/// Opens a folder, and never what a link leads to.
pub(crate) const FOLDER: OFlags = OFlags::DIRECTORY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::RDONLY)
    .union(OFlags::CLOEXEC);

/// How a manifest is written to a folder.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unpack {
    /// Let the owner read and write everything, e.g., because the owner is a task that works in its copy.
    pub writable: bool,
    /// Continue in a folder that an earlier run has begun: contents that are right are not asked for again.
    ///
    /// Without it, the folder must be empty. With it, a file or link that is not as it should be is replaced, a file as soon
    /// as the new one is whole; whatever the manifest does not have stays.
    pub resume: bool,
}

impl Unpack {
    /// Writes the manifest to the folder `target`, which is made if it is absent. It must not be a link; links on the
    /// way to it are followed.
    ///
    /// Files and folders are the caller's. Files have the times of the manifest, and folders those of the writing. Folders get their modes at the end.
    /// Whether there is space enough is for the caller to find out before.
    ///
    /// # Errors
    ///
    /// If the folder is not empty, a content cannot be got or is a wrong one, or something cannot be written. What was
    /// written until then stays.
    pub fn write(
        &self,
        manifest: &Manifest,
        target: &Path,
        contents: &mut dyn Contents,
        mut progress: impl FnMut(Progress),
    ) -> Result<(), Error> {
        fs::create_dir_all(target).map_err(Error::io("make", target))?;
        let opened = rustix::fs::open(target, FOLDER, FileMode::empty());
        let root = opened.map_err(io::Error::from).map_err(Error::io("open", target))?;
        if !self.resume && !is_empty(&root).map_err(Error::io("read", target))? {
            return Err(Error::NotEmpty {
                path: target.to_owned(),
            });
        }
        let mut done = Progress::default();
        let mut folders = Folders::new(root.as_fd(), target);
        for entry in manifest.entries() {
            folders.leave_for(&entry.path, |_, _| Ok(()))?;
            match &entry.kind {
                EntryKind::Directory { mode } => {
                    folders.enter(&entry.path, *mode, Step::Make { resume: self.resume })?
                }
                EntryKind::File {
                    mode,
                    mtime,
                    contents: wanted,
                } => {
                    let mut writing = self.begin_file(&folders, &entry.path, wanted)?;
                    let mut fetch = |content: &Content| fetch(&entry.path, content, contents);
                    write_file(&mut writing, wanted, &mut fetch, |bytes| {
                        done.bytes += bytes;
                        progress(done);
                    })
                    .map_err(|error| error.named(&folders, &entry.path))?;
                    set_mtime(&writing.file, mtime.unwrap_or(Mtime::UNKNOWN))
                        .and_then(|()| self.set_mode(&writing.file, *mode, 0o600))
                        .and_then(|()| writing.finish(folders.current(), entry.path.name()))
                        .map_err(folders.failed("write", &entry.path))?;
                    done.files += 1;
                    progress(done);
                }
                // Links come last: nothing is written while there is one.
                EntryKind::Link { .. } => {}
            }
        }
        self.finish(manifest.entries(), root.as_fd(), target)
    }

    /// Makes the links, and gives each folder its mode when nothing more is to be made in it.
    fn finish(&self, entries: &[Entry], root: BorrowedFd<'_>, target: &Path) -> Result<(), Error> {
        let mut folders = Folders::new(root, target);
        let set_mode = |handle: &OwnedFd, mode| self.set_mode(handle, mode, 0o700);
        for entry in entries {
            folders.leave_for(&entry.path, set_mode)?;
            match &entry.kind {
                EntryKind::Directory { mode } => folders.enter(&entry.path, *mode, Step::Open)?,
                EntryKind::Link { target } => {
                    let name = entry.path.name();
                    let made = make_link(folders.current(), name, target.as_bytes(), self.resume);
                    made.map_err(folders.failed("make the link", &entry.path))?;
                }
                EntryKind::File { .. } => {}
            }
        }
        folders.leave_all(set_mode)
    }

    /// Begins to write a file: a new one, or on from what an earlier run has left of it.
    fn begin_file(&self, folders: &Folders<'_>, path: &EntryPath, contents: &[Content]) -> Result<Writing, Error> {
        let (folder, name) = (folders.current(), path.name());
        if self.resume {
            let present = Present::find(folder, name, contents).map_err(folders.failed("read", path))?;
            let begun = present.begin(folder, name, contents);
            return begun.map_err(folders.failed("make", path));
        }
        let opened = rustix::fs::openat(folder, name, NEW_FILE, FileMode::from_raw_mode(0o600));
        opened
            .map(|handle| Writing::new(File::from(handle)))
            .map_err(io::Error::from)
            .map_err(folders.failed("make", path))
    }

    fn set_mode(&self, handle: impl AsFd, mode: Mode, owner: u32) -> io::Result<()> {
        let bits = mode.bits() | if self.writable { owner } else { 0 };
        // The file mode creation mask does not apply to this call.
        rustix::fs::fchmod(handle, FileMode::from_raw_mode(bits as rustix::fs::RawMode)).map_err(io::Error::from)
    }
}

/// How to get into a folder.
#[derive(Clone, Copy)]
enum Step {
    /// Make it. On resume it may be there.
    Make { resume: bool },
    /// It was made.
    Open,
}

/// The handles of the folders on the way to the current entry.
struct Folders<'a> {
    root: BorrowedFd<'a>,
    target: &'a Path,
    open: Vec<(EntryPath, Mode, OwnedFd)>,
}

impl<'a> Folders<'a> {
    fn new(root: BorrowedFd<'a>, target: &'a Path) -> Self {
        Self {
            root,
            target,
            open: Vec::new(),
        }
    }

    fn current(&self) -> BorrowedFd<'_> {
        self.open.last().map_or(self.root, |(_, _, handle)| handle.as_fd())
    }

    fn failed(&self, action: &'static str, path: &EntryPath) -> impl FnOnce(io::Error) -> Error + use<> {
        Error::io(action, self.target.join(path.as_path()))
    }

    /// Leaves folders until the current one is that of the entry.
    fn leave_for(
        &mut self,
        path: &EntryPath,
        mut left: impl FnMut(&OwnedFd, Mode) -> io::Result<()>,
    ) -> Result<(), Error> {
        while self
            .open
            .last()
            .is_some_and(|(folder, _, _)| path.parent() != Some(folder.as_bytes()))
        {
            self.leave(&mut left)?;
        }
        Ok(())
    }

    fn leave_all(&mut self, mut left: impl FnMut(&OwnedFd, Mode) -> io::Result<()>) -> Result<(), Error> {
        while !self.open.is_empty() {
            self.leave(&mut left)?;
        }
        Ok(())
    }

    fn leave(&mut self, left: &mut impl FnMut(&OwnedFd, Mode) -> io::Result<()>) -> Result<(), Error> {
        match self.open.pop() {
            Some((path, mode, handle)) => left(&handle, mode).map_err(self.failed("set the mode of", &path)),
            None => Ok(()),
        }
    }

    fn enter(&mut self, path: &EntryPath, mode: Mode, step: Step) -> Result<(), Error> {
        let entered = enter(self.current(), path.name(), step);
        let handle = entered.map_err(io::Error::from).map_err(self.failed("make", path))?;
        self.open.push((path.clone(), mode, handle));
        Ok(())
    }
}

fn enter(folder: BorrowedFd<'_>, name: &[u8], step: Step) -> rustix::io::Result<OwnedFd> {
    let private = FileMode::from_raw_mode(0o700);
    let is_old = match step {
        Step::Make { resume } => match rustix::fs::mkdirat(folder, name, private) {
            Err(Errno::EXIST) if resume => true,
            made => made.map(|()| false)?,
        },
        Step::Open => false,
    };
    let handle = rustix::fs::openat(folder, name, FOLDER, FileMode::empty())?;
    if is_old {
        // An earlier run may have given it its mode already.
        rustix::fs::fchmod(&handle, private)?;
    }
    Ok(handle)
}

fn make_link(folder: BorrowedFd<'_>, name: &[u8], target: &[u8], resume: bool) -> io::Result<()> {
    let mut made = rustix::fs::symlinkat(target, folder, name);
    if resume && made == Err(Errno::EXIST) {
        let old = rustix::fs::readlinkat(folder, name, Vec::new());
        if old.is_ok_and(|old| old.to_bytes() == target) {
            return Ok(());
        }
        let removed = rustix::fs::unlinkat(folder, name, AtFlags::empty());
        made = removed.and_then(|()| rustix::fs::symlinkat(target, folder, name));
    }
    Ok(made?)
}

fn is_empty(folder: &OwnedFd) -> io::Result<bool> {
    for item in Dir::read_from(folder)? {
        if !matches!(item?.file_name().to_bytes(), b"." | b"..") {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The bytes of a content, if they are the right ones.
pub(crate) fn fetch(path: &EntryPath, content: &Content, contents: &mut dyn Contents) -> Result<bytes::Bytes, Error> {
    let (path, hash) = (|| path.clone(), *content.hash());
    let bytes = contents.read(content).map_err(|source| Error::Fetch {
        path: path(),
        hash,
        source,
    })?;
    if content.is(&bytes) {
        Ok(bytes)
    } else {
        Err(Error::WrongContent { path: path(), hash })
    }
}

/// Why a file was not written.
enum FileError {
    Fetch(Error),
    Io(io::Error),
}

impl From<io::Error> for FileError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl FileError {
    fn named(self, folders: &Folders<'_>, path: &EntryPath) -> Error {
        match self {
            Self::Fetch(error) => error,
            Self::Io(error) => folders.failed("write", path)(error),
        }
    }
}

/// Writes the contents to a file that may have the first ones already. `written` hears of every content.
fn write_file(
    writing: &mut Writing,
    contents: &[Content],
    fetch: &mut dyn FnMut(&Content) -> Result<bytes::Bytes, Error>,
    mut written: impl FnMut(u64),
) -> Result<(), FileError> {
    let (there, mut size) = (writing.leading.count, writing.leading.bytes);
    for content in &contents[..there] {
        written(u64::from(content.length()));
    }
    let file = &mut writing.file;
    if there < contents.len() {
        file.seek(SeekFrom::Start(size))?;
    }
    for content in &contents[there..] {
        file.write_all(&fetch(content).map_err(FileError::Fetch)?)?;
        size += u64::from(content.length());
        written(u64::from(content.length()));
    }
    // Not before: another node may write the same file.
    if file.metadata()?.len() > size {
        file.set_len(size)?;
    }
    Ok(())
}

fn set_mtime(file: &File, mtime: Mtime) -> io::Result<()> {
    let times = Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_NOW,
        },
        last_modification: Timespec {
            tv_sec: mtime.seconds().cast_signed(),
            tv_nsec: 0,
        },
    };
    Ok(rustix::fs::futimens(file, &times)?)
}

#[cfg(test)]
mod tests;
