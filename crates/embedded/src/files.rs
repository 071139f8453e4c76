//! File operations for files that must be private, must survive a power cut, or can be tampered with by a task.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// Creates a directory that only its owner can access. An existing directory keeps the mode that its creator chose.
pub(crate) fn create_private_dir(dir: &Path) -> io::Result<()> {
    if let Some(parent) = dir.parent() {
        fs::create_dir_all(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
        Err(error) => Err(error),
        // Without this, a power cut could lose the directory's name, and with it the files that are synced inside.
        Ok(()) => sync_dir(dir.parent().unwrap_or(dir)),
    }
}

/// Options that open a file, or create one that only its owner can access.
pub(crate) fn private_file_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true).mode(0o600);
    options
}

/// Whether a write must survive a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fsync {
    /// A power cut may undo it.
    No,
    /// It is on the disk when the call returns.
    Yes,
}

/// Replaces a file atomically, by writing `NAME.new` first. An existing `NAME.new` is overwritten and only then
/// truncated, because it may hold reserved space.
pub(crate) fn replace(path: &Path, bytes: &[u8], fsync: Fsync) -> io::Result<()> {
    let new = path.with_added_extension("new");
    let mut file = private_file_options().open(&new)?;
    file.write_all(bytes)?;
    file.set_len(bytes.len() as u64)?;
    rename_into_place(&file, &new, path, fsync)
}

/// Renames `new` to `path`: readers see the old content or the new one, never a part of it.
pub(crate) fn rename_into_place(file: &File, new: &Path, path: &Path, fsync: Fsync) -> io::Result<()> {
    if fsync == Fsync::Yes {
        // If the rename reached the disk before the content, a power cut would leave an empty file.
        file.sync_all()?;
    }
    fs::rename(new, path)?;
    match fsync {
        Fsync::Yes => sync_dir(path.parent().unwrap_or(Path::new("."))),
        Fsync::No => Ok(()),
    }
}

/// Syncs the entries of a directory to the disk.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Opens a regular file. A task may have replaced it with a FIFO, and opening that would block.
pub(crate) fn open_regular_file(path: &Path) -> io::Result<File> {
    if path.symlink_metadata()?.is_file() {
        File::open(path)
    } else {
        Err(io::Error::new(ErrorKind::InvalidData, "not a regular file"))
    }
}

/// Reads the beginning of such a file, which can be as large as the disk.
pub(crate) fn read_at_most(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_regular_file(path)?.take(max).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads the end of such a file.
pub(crate) fn read_tail(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    let mut file = open_regular_file(path)?;
    let start = file.metadata()?.len().saturating_sub(max);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(max).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Adds what was attempted to an error.
pub(crate) fn with_context(error: io::Error, what: &str) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}
