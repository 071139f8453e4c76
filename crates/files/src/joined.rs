//! Joins several manifests into one.

use std::collections::BTreeMap;

use crate::entry::{Entry, EntryKind, Mode};
use crate::entry_path::EntryPath;
use crate::error::Error;
use crate::manifest::Manifest;

/// A manifest and the place of what is in it.
#[derive(Debug)]
pub enum Part<'a> {
    /// The entries are in this folder.
    Folder(EntryPath, &'a Manifest),
    /// The only entry has this path.
    File(EntryPath, &'a Manifest),
}

impl Manifest {
    /// A manifest with everything that these have, each at its place.
    ///
    /// # Errors
    ///
    /// If a part is in a file of another one, or a path is too long.
    pub fn joined<'a>(parts: impl IntoIterator<Item = Part<'a>>) -> Result<Self, Error> {
        let mut entries: BTreeMap<EntryPath, EntryKind> = BTreeMap::new();
        for part in parts {
            let (Part::Folder(at, _) | Part::File(at, _)) = &part;
            for (end, _) in at.as_bytes().iter().enumerate().filter(|(_, byte)| **byte == b'/') {
                let folder = EntryPath::new(&at.as_bytes()[..end])?;
                entries
                    .entry(folder)
                    .or_insert(EntryKind::Directory { mode: Mode::FOLDER });
            }
            match part {
                Part::Folder(at, manifest) => {
                    for entry in manifest.entries() {
                        let path = [at.as_bytes(), b"/", entry.path.as_bytes()].concat();
                        entries.insert(EntryPath::new(path)?, entry.kind.clone());
                    }
                    entries.entry(at).or_insert(EntryKind::Directory { mode: Mode::FOLDER });
                }
                Part::File(at, manifest) => {
                    let only = manifest.entries().first();
                    entries.extend(only.map(|entry| (at, entry.kind.clone())));
                }
            }
        }
        let entries = entries.into_iter().map(|(path, kind)| Entry { path, kind });
        Self::new(entries.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::Part;
    use crate::{Content, Entry, EntryKind, EntryPath, Manifest, Mode};

    fn path(text: &str) -> EntryPath {
        EntryPath::new(text).unwrap()
    }

    fn file(name: &str, text: &str) -> Manifest {
        let kind = EntryKind::File {
            mtime: None,
            mode: Mode::new(0o600),
            contents: vec![Content::of(text.as_bytes()).unwrap()],
        };
        let path = path(name);
        Manifest::new(vec![Entry { path, kind }]).unwrap()
    }

    #[test]
    fn each_part_is_at_its_place_and_folders_on_the_way_are_made() {
        let (one, two) = (file("one", "1"), file("two", "2"));
        let parts = [
            Part::Folder(path("out/b"), &one),
            Part::File(path("out/a.txt"), &two),
            Part::Folder(path("empty"), &Manifest::new(Vec::new()).unwrap()),
        ];
        let joined = Manifest::joined(parts).unwrap();
        let names: Vec<String> = joined.entries().iter().map(|entry| entry.path.to_string()).collect();
        assert_eq!(names, ["empty", "out", "out/a.txt", "out/b", "out/b/one"]);
        assert_eq!(joined.entries()[2].kind, two.entries()[0].kind);
        assert_eq!(joined.contents().len(), 2);
    }

    #[test]
    fn a_part_is_not_in_a_file() {
        let one = file("one", "1");
        let parts = [Part::File(path("a"), &one), Part::Folder(path("a/b"), &one)];
        assert!(Manifest::joined(parts).is_err());
    }
}
