//! Finds what of a folder is taken along. Reads the folders and their ignore files, and no other file.

use std::ffi::OsStr;
use std::fs::{self, FileType, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::entry::{LinkTarget, Mode};
use crate::entry_path::EntryPath;
use crate::error::Error;
use crate::ignore_rules::{IgnoreRules, Verdict};
use crate::limits::Limits;
use crate::selection::{Found, FoundKind, LeftOut, Root, Selection, Stamp};

/// How a folder is walked.
#[derive(Debug, Clone, Copy)]
pub struct Walk {
    /// How much may be taken along.
    pub limits: Limits,
    /// Take also what ignore files and defaults leave out.
    pub everything: bool,
}

impl Walk {
    /// Finds what is in a folder, with the patterns of the `.skyignore` in it, or else of all `.gitignore` files in it.
    ///
    /// Hidden files are taken along. Links are not followed, but the folder itself may be a link. Of a mode, only the
    /// permissions of owner, group, and others are kept; attributes and access lists are not.
    ///
    /// # Errors
    ///
    /// If the folder is more than the limits allow, or a file or folder cannot be read. If there is something other than
    /// files, folders, and links, or a link that leads out of the folder.
    pub fn folder(&self, root: &Path) -> Result<Selection, Error> {
        let root = fs::canonicalize(root).map_err(Error::io("read", root))?;
        let mut walker = Walker {
            entries: Vec::new(),
            left_out: LeftOut::default(),
            waiting: vec![Folder {
                place: root.clone(),
                path: None,
                rules: IgnoreRules::of_root(&root, self.everything)?,
            }],
        };
        // One entry too many is enough to say so; the folder may be a whole disk.
        while let Some(folder) = walker.waiting.pop()
            && walker.entries.len() <= self.limits.max_entries
        {
            walker.read(&folder, self.limits.max_entries)?;
        }
        Selection::new(Root::Folder(root), walker.entries, walker.left_out, &self.limits)
    }

    /// A single file, which is to have this path. If it is a link, the file that it leads to is taken.
    ///
    /// # Errors
    ///
    /// If it is not a file, or larger than the limits allow. If the path has several components: their folders would
    /// have no modes.
    pub fn file(&self, file: &Path, path: EntryPath) -> Result<Selection, Error> {
        let place = fs::canonicalize(file).map_err(Error::io("read", file))?;
        let metadata = fs::metadata(&place).map_err(Error::io("read", &place))?;
        let kind = match found_kind(&place, &metadata)? {
            FoundKind::Directory { .. } => {
                let kind = "folder";
                return Err(Error::Special { path: place, kind });
            }
            kind => kind,
        };
        let entries = vec![Found { path, kind }];
        Selection::new(Root::File(place), entries, LeftOut::default(), &self.limits)
    }
}

/// A folder that is to be read.
struct Folder {
    place: PathBuf,
    /// `None` for the root.
    path: Option<EntryPath>,
    rules: IgnoreRules,
}

/// A walk in progress. It does not recurse, because the depth is not ours to choose.
struct Walker {
    entries: Vec<Found>,
    left_out: LeftOut,
    waiting: Vec<Folder>,
}

impl Walker {
    fn read(&mut self, folder: &Folder, max_entries: usize) -> Result<(), Error> {
        let failed = || Error::io("read", &folder.place);
        for item in fs::read_dir(&folder.place).map_err(failed())? {
            let item = item.map_err(failed())?;
            self.visit(folder, &item.file_name())?;
            if self.entries.len() > max_entries {
                break;
            }
        }
        Ok(())
    }

    fn visit(&mut self, folder: &Folder, name: &OsStr) -> Result<(), Error> {
        let place = folder.place.join(name);
        let metadata = match fs::symlink_metadata(&place) {
            Ok(metadata) => metadata,
            // A temporary file of an editor is as good as never there.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(Error::io("read", place)(error)),
        };
        match folder.rules.verdict(&place, metadata.is_dir()) {
            Verdict::Take => {}
            Verdict::Ignored => {
                self.left_out.by_patterns += 1;
                return Ok(());
            }
            Verdict::LeftOut => {
                let name = crate::text::encode(name.as_bytes());
                *self.left_out.by_default.entry(name).or_default() += 1;
                return Ok(());
            }
        }
        let path = EntryPath::child(folder.path.as_ref(), name.as_bytes())?;
        let kind = found_kind(&place, &metadata)?;
        if metadata.is_dir() {
            self.waiting.push(Folder {
                rules: folder.rules.of_folder(&place)?,
                path: Some(path.clone()),
                place,
            });
        }
        self.entries.push(Found { path, kind });
        Ok(())
    }
}

fn found_kind(place: &Path, metadata: &Metadata) -> Result<FoundKind, Error> {
    let file_type = metadata.file_type();
    let mode = Mode::new(metadata.mode());
    if file_type.is_dir() {
        Ok(FoundKind::Directory { mode })
    } else if file_type.is_file() {
        let stamp = Stamp::of(metadata);
        Ok(FoundKind::File { mode, stamp })
    } else if file_type.is_symlink() {
        let target = fs::read_link(place).map_err(Error::io("read", place))?;
        let target = LinkTarget::new(target.as_os_str().as_bytes());
        let target = target.ok_or_else(|| Error::Changed { path: place.to_owned() })?;
        Ok(FoundKind::Link { target })
    } else {
        let kind = special_kind(file_type);
        let path = place.to_owned();
        Err(Error::Special { path, kind })
    }
}

fn special_kind(file_type: FileType) -> &'static str {
    if file_type.is_socket() {
        "socket"
    } else if file_type.is_fifo() {
        "named pipe"
    } else if file_type.is_block_device() || file_type.is_char_device() {
        "device"
    } else {
        "special file"
    }
}

#[cfg(test)]
mod tests;
