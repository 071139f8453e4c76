//! How files are made, replaced and read that must be private, survive a power cut, or are within the reach of a command.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// Makes a folder for its owner alone. One that is there stays as it is: who made it has chosen who may see it.
pub(crate) fn make_private(folder: &Path) -> io::Result<()> {
    if let Some(parent) = folder.parent() {
        fs::create_dir_all(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        Err(error) => Err(error),
        // What is synced in it would be lost in a power cut with its name.
        Ok(()) => sync_folder(folder.parent().unwrap_or(folder)),
    }
}

/// How a file is opened that is its owner's alone when it is new.
pub(crate) fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true).mode(0o600);
    options
}

/// Whether a power cut may undo what is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lasting {
    /// It may.
    No,
    /// It may not, once the call returns.
    Yes,
}

/// Puts a file in the place of another, which is written as `NAME.new` first. A file of that name is written over and not cut
/// before, since there may be room that was taken for it.
pub(crate) fn replace(path: &Path, bytes: &[u8], lasting: Lasting) -> io::Result<()> {
    let new = path.with_added_extension("new");
    let mut file = private_file().open(&new)?;
    file.write_all(bytes)?;
    file.set_len(bytes.len() as u64)?;
    take_place(&file, &new, path, lasting)
}

/// Lets a file that was written as `new` take its place: a reader sees the old one or the new one, and never a half.
pub(crate) fn take_place(file: &File, new: &Path, path: &Path, lasting: Lasting) -> io::Result<()> {
    if lasting == Lasting::Yes {
        // A new name for content that is not on the disk would be an empty file after a power cut.
        file.sync_all()?;
    }
    fs::rename(new, path)?;
    match lasting {
        Lasting::Yes => sync_folder(path.parent().unwrap_or(Path::new("."))),
        Lasting::No => Ok(()),
    }
}

/// Puts the names in a folder on the disk.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Opens a file that a command may have replaced by a pipe, which would be waited for.
pub(crate) fn open_plain(path: &Path) -> io::Result<File> {
    if path.symlink_metadata()?.is_file() {
        File::open(path)
    } else {
        Err(io::Error::new(ErrorKind::InvalidData, "this is no file"))
    }
}

/// The beginning of such a file, which may be as long as the disk.
pub(crate) fn read_beginning(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_plain(path)?.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// An error with what was attempted.
pub(crate) fn named(error: io::Error, what: &str) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}
