//! File operations for files that must be private, must survive a power cut, or can be tampered with by a task.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// Creates a directory that only its owner can access. An existing directory keeps the mode that its creator chose.
pub(crate) fn make_private(folder: &Path) -> io::Result<()> {
    if let Some(parent) = folder.parent() {
        fs::create_dir_all(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        Err(error) => Err(error),
        // Without this, a power cut could lose the directory's name, and with it the files that are synced inside.
        Ok(()) => sync_folder(folder.parent().unwrap_or(folder)),
    }
}

/// Options that open a file, or create one that only its owner can access.
pub(crate) fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true).mode(0o600);
    options
}

/// Whether a write must survive a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lasting {
    /// A power cut may undo it.
    No,
    /// It is on the disk when the call returns.
    Yes,
}

/// Replaces a file atomically, by writing `NAME.new` first. An existing `NAME.new` is overwritten and only then
/// truncated, because it may hold reserved space.
pub(crate) fn replace(path: &Path, bytes: &[u8], lasting: Lasting) -> io::Result<()> {
    let new = path.with_added_extension("new");
    let mut file = private_file().open(&new)?;
    file.write_all(bytes)?;
    file.set_len(bytes.len() as u64)?;
    take_place(&file, &new, path, lasting)
}

/// Renames `new` to `path`: readers see the old content or the new one, never a part of it.
pub(crate) fn take_place(file: &File, new: &Path, path: &Path, lasting: Lasting) -> io::Result<()> {
    if lasting == Lasting::Yes {
        // If the rename reached the disk before the content, a power cut would leave an empty file.
        file.sync_all()?;
    }
    fs::rename(new, path)?;
    match lasting {
        Lasting::Yes => sync_folder(path.parent().unwrap_or(Path::new("."))),
        Lasting::No => Ok(()),
    }
}

/// Syncs the entries of a directory to the disk.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Opens a regular file. A task may have replaced it with a FIFO, and opening that would block.
pub(crate) fn open_plain(path: &Path) -> io::Result<File> {
    if path.symlink_metadata()?.is_file() {
        File::open(path)
    } else {
        Err(io::Error::new(ErrorKind::InvalidData, "not a regular file"))
    }
}

/// Reads the beginning of such a file, which can be as large as the disk.
pub(crate) fn read_beginning(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_plain(path)?.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Adds what was attempted to an error.
pub(crate) fn named(error: io::Error, what: &str) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}
