//! Which few paths of many make most of the size, or of the number, of them all.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;

use crate::entry_path::EntryPath;
use crate::limits::HumanSize;
use crate::text::shortened;

/// A file that is large, or a folder that holds much.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heavy {
    /// Where it is.
    pub path: EntryPath,
    /// Whether it is a folder.
    pub is_directory: bool,
    /// The bytes of the file, or of all files in the folder.
    pub bytes: u64,
    /// 1, or the number of entries in the folder and itself.
    pub entries: usize,
}

/// By what paths are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weight {
    Bytes,
    Entries,
}

impl Heavy {
    fn weight(&self, weight: Weight) -> u64 {
        match weight {
            Weight::Bytes => self.bytes,
            Weight::Entries => self.entries as u64,
        }
    }
}

impl fmt::Display for Heavy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, bytes, .. } = self;
        if self.is_directory {
            write!(
                formatter,
                "`{}/` ({} in {} entries)",
                shortened(&path.to_string()),
                HumanSize(*bytes),
                self.entries
            )
        } else {
            write!(formatter, "`{}` ({})", shortened(&path.to_string()), HumanSize(*bytes))
        }
    }
}

/// At most `count` paths that weigh most and do not contain each other, the heaviest first.
///
/// A folder stands for what is in it, unless one thing in it makes more than half of its weight: ten thousand images are
/// one folder, and a checkpoint between scripts is a file. The entries must be sorted and say their size and whether
/// they are folders.
pub(crate) fn heaviest<'a>(
    entries: impl Iterator<Item = (&'a EntryPath, u64, bool)>,
    count: usize,
    weight: Weight,
) -> Vec<Heavy> {
    let all = with_sums(entries);
    let mut candidates: BinaryHeap<(u64, Reverse<usize>)> = BinaryHeap::new();
    candidates.extend(children(&all, 0, all.len()).map(|at| (all[at].weight(weight), Reverse(at))));
    let mut found = Vec::new();
    while found.len() < count {
        let Some((total, Reverse(at))) = candidates.pop() else {
            break;
        };
        let inside = || children(&all, at + 1, at + all[at].entries);
        // With room for more paths a folder could be opened, too, but its name says more than those of its files.
        if inside().any(|child| all[child].weight(weight) > total / 2) {
            candidates.extend(inside().map(|child| (all[child].weight(weight), Reverse(child))));
        } else {
            found.push(all[at].clone());
        }
    }
    found
}

/// The paths between two places that are not in a folder between them. A folder is followed by what is in it.
fn children(all: &[Heavy], start: usize, end: usize) -> impl Iterator<Item = usize> {
    std::iter::successors(Some(start), move |at| all.get(*at).map(|entry| at + entry.entries))
        .take_while(move |at| *at < end)
}

/// The entries, in which each folder has the sums of what is in it.
fn with_sums<'a>(entries: impl Iterator<Item = (&'a EntryPath, u64, bool)>) -> Vec<Heavy> {
    let mut all: Vec<Heavy> = Vec::new();
    let mut folders: Vec<usize> = Vec::new();
    for (path, bytes, is_directory) in entries {
        folders.retain(|folder| path.as_path().starts_with(all[*folder].path.as_path()));
        for folder in &folders {
            all[*folder].bytes += bytes;
            all[*folder].entries += 1;
        }
        if is_directory {
            folders.push(all.len());
        }
        all.push(Heavy {
            path: path.clone(),
            is_directory,
            bytes,
            entries: 1,
        });
    }
    all
}

#[cfg(test)]
mod tests {
    use super::{EntryPath, Weight, heaviest};

    fn names(entries: &[(&str, u64)], weight: Weight) -> Vec<String> {
        let entries: Vec<_> = entries
            .iter()
            .map(|(path, bytes)| {
                (
                    EntryPath::new(path.trim_end_matches('/')).unwrap(),
                    *bytes,
                    path.ends_with('/'),
                )
            })
            .collect();
        let found = heaviest(
            entries.iter().map(|(path, bytes, folder)| (path, *bytes, *folder)),
            3,
            weight,
        );
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_folder_of_many_is_named_as_one_and_a_large_file_by_itself() {
        let entries = [
            ("data/", 0),
            ("data/images/", 0),
            ("data/images/1", 4 << 20),
            ("data/images/2", 5 << 20),
            ("data/images/3", 5 << 20),
            ("data/labels", 1),
            ("run/", 0),
            ("run/model.pt", 1 << 30),
            ("run/train.py", 10),
            ("small", 1),
        ];
        let sizes = names(&entries, Weight::Bytes);
        assert_eq!(
            sizes,
            [
                "`run/model.pt` (1 GiB)",
                "`data/images/` (14 MiB in 4 entries)",
                "`run/train.py` (10 B)"
            ]
        );
        let counts = names(&entries, Weight::Entries);
        assert_eq!(counts[0], "`data/images/` (14 MiB in 4 entries)");
    }

    #[test]
    fn nothing_is_named_of_nothing() {
        assert!(names(&[], Weight::Bytes).is_empty());
    }
}
