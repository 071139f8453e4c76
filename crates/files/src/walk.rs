//! Finds what of a folder is to be sent. Reads the folders and their ignore files, and no other file.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, FileType, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD};

use crate::defaults::Reason;
use crate::entry::{LinkTarget, Mode};
use crate::entry_path::EntryPath;
use crate::error::Error;
use crate::ignore_files::is_absent;
use crate::ignore_rules::{IgnoreRules, Verdict};
use crate::left_out::LeftOut;
use crate::limits::Limits;
use crate::selection::{Found, FoundKind, Root, Selection, Stamp};
use crate::tree;

/// How a folder is walked.
#[derive(Debug, Clone, Copy)]
pub struct Walk {
    /// How much may be sent.
    pub limits: Limits,
    /// Include also what ignore files and defaults leave out.
    pub everything: bool,
}

impl Walk {
    /// Finds what is in a folder, with the patterns of the `.skyignore` in it, or else with what git reads: all `.gitignore`
    /// files in it, and in a repository also those above and the excludes of the repository and of the user.
    ///
    /// Hidden files are included. What vanishes meanwhile was never there. Links are not followed, but the folder
    /// itself may be a link. Of a mode, only the permissions of owner, group, and others are kept; attributes and
    /// access lists are not.
    ///
    /// # Errors
    ///
    /// If the folder is more than the limits allow, or a file or folder cannot be read. If there is something other than
    /// files, folders, and links, or a link that leads out of the folder.
    pub fn folder(&self, root: &Path) -> Result<Selection, Error> {
        let (root, walker) = self.walk(root, &Unfit::Refuse)?;
        Selection::new(Root::Folder(root), walker.entries, walker.left_out, &self.limits)
    }

    /// Does the same, but skips what cannot be copied or read, or has too long a path in the folder `below`: a program wrote
    /// the folder, and no user is there to fix it.
    ///
    /// # Errors
    ///
    /// If the folder is more than the limits allow, or cannot be read itself.
    pub fn fitting(&self, root: &Path, below: &EntryPath) -> Result<Selection, Error> {
        let (root, mut walker) = self.walk(root, &Unfit::LeaveOut { below: below.clone() })?;
        walker
            .entries
            .sort_unstable_by(|left, right| left.path.cmp(&right.path));
        let entries = walker.entries.iter().map(|entry| (&entry.path, entry.shape()));
        let refused: HashSet<EntryPath> = tree::refused_links(entries).into_iter().collect();
        walker.entries.retain(|entry| !refused.contains(&entry.path));
        for path in refused {
            walker.left_out.unfit.add(path.to_string());
        }
        Selection::new(Root::Folder(root), walker.entries, walker.left_out, &self.limits)
    }

    fn walk(&self, root: &Path, unfit: &Unfit) -> Result<(PathBuf, Walker), Error> {
        let root = fs::canonicalize(root).map_err(Error::io("read", root))?;
        let rules = IgnoreRules::of_root(&root, self.everything)?;
        let mut walker = Walker {
            unfit: unfit.clone(),
            entries: Vec::new(),
            left_out: LeftOut {
                ignore_file: rules.ignore_file(),
                ..LeftOut::default()
            },
            waiting: vec![Folder {
                place: root.clone(),
                path: None,
                rules,
            }],
        };
        // One entry too many is enough to say so; the folder may be a whole disk.
        while let Some(folder) = walker.waiting.pop()
            && walker.entries.len() <= self.limits.max_entries
        {
            walker.read(&folder, self.limits.max_entries)?;
        }
        Ok((root, walker))
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

/// What becomes of what cannot be copied.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Unfit {
    Refuse,
    LeaveOut { below: EntryPath },
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
    unfit: Unfit,
    entries: Vec<Found>,
    left_out: LeftOut,
    waiting: Vec<Folder>,
}

impl Walker {
    fn read(&mut self, folder: &Folder, max_entries: usize) -> Result<(), Error> {
        match self.list(folder, max_entries) {
            Err(Error::Io { source, .. }) if is_absent(&source) => match &folder.path {
                Some(gone) => {
                    self.forget(gone);
                    Ok(())
                }
                None => Err(Error::io("read", &folder.place)(source)),
            },
            Err(error) => match &folder.path {
                Some(path) if self.unfit != Unfit::Refuse => {
                    self.forget(path);
                    self.left_out.unreadable.add(format!("{path}/"));
                    Ok(())
                }
                _ => Err(error),
            },
            Ok(()) => Ok(()),
        }
    }

    fn list(&mut self, folder: &Folder, max_entries: usize) -> Result<(), Error> {
        let failed = || Error::io("read", &folder.place);
        for item in fs::read_dir(&folder.place).map_err(failed())? {
            let item = item.map_err(failed())?;
            match self.visit(folder, &item.file_name()) {
                Err(_) if self.unfit != Unfit::Refuse => {
                    self.left_out.unreadable.add(folder.shown(&item.file_name(), false));
                }
                visited => visited?,
            }
            if self.entries.len() > max_entries {
                break;
            }
        }
        Ok(())
    }

    /// A folder that has vanished was never there, nor was what is in it.
    fn forget(&mut self, gone: &EntryPath) {
        let is_in = |path: &EntryPath| path.as_path().starts_with(gone.as_path());
        self.entries.retain(|entry| !is_in(&entry.path));
        self.waiting.retain(|folder| !folder.path.as_ref().is_some_and(is_in));
    }

    fn visit(&mut self, folder: &Folder, name: &OsStr) -> Result<(), Error> {
        let place = folder.place.join(name);
        let metadata = match fs::symlink_metadata(&place) {
            Ok(metadata) => metadata,
            // A temporary file of an editor is as good as never there.
            Err(error) if is_absent(&error) => return Ok(()),
            Err(error) => return Err(Error::io("read", place)(error)),
        };
        let verdict = folder.rules.verdict(&place, metadata.is_dir());
        match verdict {
            Verdict::Take => {}
            Verdict::TakeThoughGitIgnores => {
                let path = folder.shown(name, metadata.is_dir());
                self.left_out.ignored_by_git_only.add(path);
            }
            Verdict::Ignored => {
                self.left_out.by_patterns.add(folder.shown(name, metadata.is_dir()));
                return Ok(());
            }
            Verdict::LeftOut(Reason::Cache) => return Ok(()),
            Verdict::LeftOut(Reason::Default) => {
                let name = crate::text::encode(name.as_bytes());
                *self.left_out.by_default.entry(name).or_default() += 1;
                return Ok(());
            }
        }
        let path = EntryPath::child(folder.path.as_ref(), name.as_bytes())?;
        let kind = match found_kind(&place, &metadata) {
            Err(Error::Io { source, .. }) if is_absent(&source) => return Ok(()),
            Err(Error::Special { .. }) if self.unfit != Unfit::Refuse => {
                self.left_out.unfit.add(folder.shown(name, false));
                return Ok(());
            }
            kind => kind?,
        };
        if let Unfit::LeaveOut { below } = &self.unfit {
            EntryPath::child(Some(below), path.as_bytes())?;
            // Otherwise one file of another user would keep all others from being sent.
            if metadata.is_file() {
                rustix::fs::accessat(CWD, &place, Access::READ_OK, AtFlags::EACCESS)
                    .map_err(|error| Error::io("read", &place)(error.into()))?;
            }
        }
        if metadata.is_dir() {
            let rules = folder.rules.of_folder(&place)?;
            self.waiting.push(Folder {
                rules: match verdict {
                    Verdict::TakeThoughGitIgnores => rules.without_git(),
                    _ => rules,
                },
                path: Some(path.clone()),
                place,
            });
        }
        self.entries.push(Found { path, kind });
        Ok(())
    }
}

impl Folder {
    /// A path in the folder as messages name it.
    fn shown(&self, name: &OsStr, is_directory: bool) -> String {
        let slash = if is_directory { "/" } else { "" };
        let name = crate::text::encode(name.as_bytes());
        match &self.path {
            Some(path) => format!("{path}/{name}{slash}"),
            None => format!("{name}{slash}"),
        }
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
