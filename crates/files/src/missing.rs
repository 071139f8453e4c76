//! Finds out which contents a folder lacks, before it is written.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::Mode as FileMode;
use rustix::io::Errno;

use crate::content::Content;
use crate::entry::EntryKind;
use crate::entry_path::EntryPath;
use crate::error::Error;
use crate::manifest::Manifest;
use crate::partial::Present;
use crate::unpack::{FOLDER, Unpack};

impl Unpack {
    /// The contents that [`Self::write`] will ask for, in this order, so that they can be fetched meanwhile; perhaps a few
    /// more. Those of a file that is there are read.
    ///
    /// # Errors
    ///
    /// If a file cannot be read although it can be opened.
    pub fn missing(&self, manifest: &Manifest, target: &Path) -> Result<Vec<Content>, Error> {
        let root = match rustix::fs::open(target, FOLDER, FileMode::empty()) {
            Ok(root) if self.resume => Some(root),
            // The writer says what is wrong with the folder.
            Ok(_) | Err(_) => None,
        };
        let mut missing = Vec::new();
        // Folders that are not there have no handle. Each folder of the manifest is listed before what is in it.
        let mut open: Vec<(&EntryPath, Option<OwnedFd>)> = Vec::new();
        for entry in manifest.entries() {
            while open
                .last()
                .is_some_and(|(folder, _)| entry.path.parent() != Some(folder.as_bytes()))
            {
                open.pop();
            }
            let folder = open.last().map_or(root.as_ref(), |(_, handle)| handle.as_ref());
            match &entry.kind {
                EntryKind::Directory { .. } => {
                    let handle = folder.and_then(|folder| open_folder(folder, entry.path.name()).ok());
                    open.push((&entry.path, handle));
                }
                EntryKind::File { contents, .. } => {
                    let find = |folder: &OwnedFd| Present::find(folder.as_fd(), entry.path.name(), contents);
                    let present = folder.map(find).transpose();
                    let present = present.map_err(Error::io("read", target.join(entry.path.as_path())))?;
                    let there = present.map_or(0, |present| present.leading.count);
                    missing.extend_from_slice(&contents[there..]);
                }
                EntryKind::Link { .. } => {}
            }
        }
        Ok(missing)
    }
}

fn open_folder(folder: &OwnedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(folder, name, FOLDER, FileMode::empty())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};
    use std::path::Path;

    use bytes::Bytes;

    use super::{Content, EntryKind, EntryPath, Manifest, Unpack};
    use crate::entry::{Entry, Mode};

    const RESUME: Unpack = Unpack {
        writable: true,
        resume: true,
    };

    /// A file of pieces that are all different.
    fn file(path: &str, pieces: &[&str]) -> Entry {
        let contents = pieces
            .iter()
            .map(|piece| Content::of(piece.as_bytes()).unwrap())
            .collect();
        Entry {
            path: EntryPath::new(path).unwrap(),
            kind: EntryKind::File {
                mode: Mode::new(0o644),
                mtime: None,
                contents,
            },
        }
    }

    fn directory(path: &str) -> Entry {
        Entry {
            path: EntryPath::new(path).unwrap(),
            kind: EntryKind::Directory { mode: Mode::new(0o755) },
        }
    }

    fn manifest() -> Manifest {
        Manifest::new(vec![
            directory("a"),
            directory("a/b"),
            file("a/b/x", &["x1", "x2", "x3"]),
            file("a/c", &["c1"]),
            file("d", &["d1", "d2"]),
        ])
        .unwrap()
    }

    /// What is missing, and what is asked for while the folder is written.
    fn missing_and_asked(folder: &Path) -> (Vec<String>, Vec<String>) {
        let names = ["x1", "x2", "x3", "c1", "d1", "d2"];
        let text = |content: &Content| {
            let named = names.iter().find(|name| content.is(name.as_bytes()));
            (*named.unwrap()).to_owned()
        };
        let missing = RESUME.missing(&manifest(), folder).unwrap();
        let mut asked = Vec::new();
        let mut read = |content: &Content| {
            asked.push(text(content));
            Ok(Bytes::from(text(content)))
        };
        RESUME.write(&manifest(), folder, &mut read, |_| {}).unwrap();
        (missing.iter().map(text).collect(), asked)
    }

    #[test]
    fn what_is_missing_is_what_is_asked_for() {
        let all = ["x1", "x2", "x3", "c1", "d1", "d2"];
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("new");
        let (missing, asked) = missing_and_asked(&target);
        assert_eq!(
            (missing, asked),
            (all.map(String::from).to_vec(), all.map(String::from).to_vec())
        );
        assert_eq!(missing_and_asked(&target), (vec![], vec![]), "everything is there");
        // A file that was cut, one with another end, and one that another name has, too.
        fs::write(target.join("a/b/x"), "x1x").unwrap();
        fs::write(target.join("d"), "d1other").unwrap();
        fs::hard_link(target.join("a/c"), dir.path().join("other")).unwrap();
        let (missing, asked) = missing_and_asked(&target);
        assert_eq!(missing, asked);
        // That of another name is not changed, but copied.
        assert_eq!(missing, ["x2", "x3", "d2"]);
        assert_eq!(fs::metadata(dir.path().join("other")).unwrap().nlink(), 1);
        assert_eq!(fs::read_to_string(target.join("d")).unwrap(), "d1d2");
    }

    #[test]
    fn what_a_link_leads_to_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let elsewhere = dir.path().join("elsewhere");
        missing_and_asked(&elsewhere);
        let target = dir.path().join("target");
        fs::create_dir(&target).unwrap();
        symlink(&elsewhere, dir.path().join("link")).unwrap();
        symlink(elsewhere.join("a"), target.join("a")).unwrap();
        symlink(elsewhere.join("d"), target.join("d")).unwrap();
        let count = |folder: &Path| RESUME.missing(&manifest(), folder).unwrap().len();
        assert_eq!(count(&target), 6);
        assert_eq!(count(&dir.path().join("link")), 6);
        let new = Unpack {
            resume: false,
            ..RESUME
        };
        assert_eq!(new.missing(&manifest(), &elsewhere).unwrap().len(), 6);
    }
}
