//! A manifest and its contents as a tar archive, for those who have only the `tar` of their image.
//!
//! The same manifest gives the same bytes: owner 0, group 0, a fixed time of folders and links. Names of any length and any bytes are in
//! GNU's form, which busybox reads, too.
//!
//! The script that unpacks sets `umask 0`: `-p` is not known to every `tar`. Without root, the one of busybox leaves folders
//! open that their owner may not write into; a [`Tar::writable`] archive has none.

use std::io::{self, Write};

use flate2::{Compression, GzBuilder};
use tar::{Builder, EntryType, Header};

use crate::contents::Contents;
use crate::entry::{Entry, EntryKind, Mode};
use crate::error::Error;
use crate::manifest::Manifest;
use crate::mtime::Mtime;
use crate::unpack::fetch;

/// The name of a header whose content is the name of the next one.
const LONG: &[u8] = b"././@LongLink";

/// The size of a name in a header. One that fills it has no room for the NUL that old programs look for.
const NAME: usize = 100;

/// How a manifest is written as a tar archive.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tar {
    /// Let the owner read and write everything.
    pub writable: bool,
}

impl Tar {
    /// Writes the archive.
    ///
    /// # Errors
    ///
    /// If a content cannot be got or is a wrong one, or the writer fails.
    pub fn write<W: Write>(&self, manifest: &Manifest, contents: &mut dyn Contents, writer: W) -> Result<W, Error> {
        let mut tar = Builder::new(writer);
        // `tar` of busybox gives a folder its mode before it writes into it: the final one comes at the end.
        let mut locked = Vec::new();
        for entry in manifest.entries() {
            match &entry.kind {
                EntryKind::Directory { mode } => {
                    let mode = self.mode(*mode, 0o700);
                    if mode & 0o700 != 0o700 {
                        locked.push((entry, mode));
                    }
                    append(&mut tar, entry, EntryType::Directory, mode | 0o700, &[]).map_err(failed)?;
                }
                EntryKind::File { mode, mtime, .. } => {
                    let header = header(
                        EntryType::Regular,
                        self.mode(*mode, 0o600),
                        mtime.unwrap_or(Mtime::UNKNOWN),
                    );
                    append_file(&mut tar, entry, header, contents)?;
                }
                // Links come last: nothing is written while there is one.
                EntryKind::Link { .. } => {}
            }
        }
        for entry in manifest.entries() {
            if let EntryKind::Link { target } = &entry.kind {
                append(&mut tar, entry, EntryType::Symlink, 0o777, target.as_bytes()).map_err(failed)?;
            }
        }
        // What is in a folder is done before the folder is locked.
        for (entry, mode) in locked.into_iter().rev() {
            append(&mut tar, entry, EntryType::Directory, mode, &[]).map_err(failed)?;
        }
        tar.into_inner().map_err(failed)
    }

    /// Writes the archive, compressed. Builds with another version of the library may compress to other bytes.
    ///
    /// # Errors
    ///
    /// Those of [`Self::write`].
    pub fn write_gz<W: Write>(&self, manifest: &Manifest, contents: &mut dyn Contents, writer: W) -> Result<W, Error> {
        // Neither a name nor a time nor a system is in the header.
        let gz = GzBuilder::new()
            .mtime(0)
            .operating_system(255)
            .write(writer, Compression::default());
        let gz = self.write(manifest, contents, gz)?;
        gz.finish().map_err(failed)
    }

    /// The archive, compressed, if it has at most `limit` bytes. Stops as soon as there are more.
    ///
    /// # Errors
    ///
    /// If a content cannot be got or is a wrong one.
    pub fn gz_within(
        &self,
        manifest: &Manifest,
        contents: &mut dyn Contents,
        limit: u64,
    ) -> Result<Option<Vec<u8>>, Error> {
        let mut within = Within {
            written: Vec::new(),
            limit: usize::try_from(limit).unwrap_or(usize::MAX),
            is_exceeded: false,
        };
        let written = self.write_gz(manifest, contents, &mut within).map(drop);
        match written {
            Ok(()) => Ok(Some(within.written)),
            Err(_) if within.is_exceeded => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn mode(self, mode: Mode, owner: u32) -> u32 {
        mode.bits() | if self.writable { owner } else { 0 }
    }
}

/// A writer that fails when there is more than the limit.
struct Within {
    written: Vec<u8>,
    limit: usize,
    is_exceeded: bool,
}

impl Write for Within {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.written.len() + bytes.len() > self.limit {
            self.is_exceeded = true;
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.written.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn failed(source: io::Error) -> Error {
    Error::io("write", "the tar archive")(source)
}

/// The header of something without content.
fn header(kind: EntryType, mode: u32, mtime: Mtime) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(mtime.seconds());
    header
}

/// Appends a file whose header has all but the names and the size.
fn append_file<W: Write>(
    tar: &mut Builder<W>,
    entry: &Entry,
    mut header: Header,
    contents: &mut dyn Contents,
) -> Result<(), Error> {
    let size = entry.kind.size();
    header.set_size(size);
    set_names(tar, &mut header, entry.path.as_bytes(), &[]).map_err(failed)?;
    tar.get_mut().write_all(header.as_bytes()).map_err(failed)?;
    // One content after another, so that a large file is never in memory.
    for content in entry.kind.contents() {
        let bytes = fetch(&entry.path, content, contents)?;
        tar.get_mut().write_all(&bytes).map_err(failed)?;
    }
    let block = header.as_bytes().len() as u64;
    let padding = size.next_multiple_of(block) - size;
    let zeros = &[0; 512][..usize::try_from(padding).unwrap_or(0)];
    tar.get_mut().write_all(zeros).map_err(failed)
}

/// Appends an entry without content.
fn append<W: Write>(tar: &mut Builder<W>, entry: &Entry, kind: EntryType, mode: u32, target: &[u8]) -> io::Result<()> {
    let mut header = header(kind, mode, Mtime::UNKNOWN);
    set_names(tar, &mut header, entry.path.as_bytes(), target)?;
    tar.append(&header, io::empty())
}

/// Puts the path and the target of a link into the header, and what has no room there before it.
///
/// The library's own functions clean targets (`./a` becomes `a`), and need UTF-8 for what has no room.
fn set_names<W: Write>(tar: &mut Builder<W>, header: &mut Header, path: &[u8], target: &[u8]) -> io::Result<()> {
    for (name, kind) in [(target, EntryType::GNULongLink), (path, EntryType::GNULongName)] {
        if name.len() >= NAME {
            let mut long = self::header(kind, 0o644, Mtime::UNKNOWN);
            long.set_size(name.len() as u64 + 1);
            long.as_old_mut().name[..LONG.len()].copy_from_slice(LONG);
            long.set_cksum();
            tar.append(&long, &[name, b"\0"].concat()[..])?;
        }
    }
    let old = header.as_old_mut();
    for (field, name) in [(&mut old.name, path), (&mut old.linkname, target)] {
        let length = name.len().min(NAME - 1);
        field[..length].copy_from_slice(&name[..length]);
    }
    header.set_cksum();
    Ok(())
}

#[cfg(test)]
mod tests;
