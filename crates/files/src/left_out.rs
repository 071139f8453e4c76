//! What is left out of a folder, and which file says so.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

/// How many paths are named.
const NAMED: usize = 3;

/// The file whose patterns say what is left out of a folder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum IgnoreFile {
    /// `.gitignore` in the folder, in folders of it, and above it in its repository.
    #[default]
    Gitignore,
    /// `.skyignore` in the folder, which replaces them all.
    Skyignore,
}

/// What was left out of a folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Whose patterns were asked.
    pub ignore_file: IgnoreFile,
    /// What is left out by default and may be missed: the names, e.g., `node_modules`, and how many there are of each.
    pub by_default: BTreeMap<String, usize>,
    /// What the patterns leave out. What is in such a folder does not count.
    pub by_patterns: Paths,
    /// What cannot be copied: sockets, pipes, devices, and links out of the folder. Only [`crate::Walk::fitting`] goes on without
    /// them.
    pub unfit: Paths,
    /// What cannot be read, or has a path that is too long. Only [`crate::Walk::fitting`] goes on without it.
    pub unreadable: Paths,
    /// What is included although git ignores it, because a `.skyignore` replaces what git reads.
    pub ignored_by_git_only: Paths,
}

/// How many paths there are, and the names of the first few.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Paths {
    count: usize,
    first: BTreeSet<String>,
}

impl IgnoreFile {
    /// The one that holds in a folder.
    #[must_use]
    pub fn of(folder: &Path) -> Self {
        if folder.join(Self::Skyignore.name()).is_file() {
            Self::Skyignore
        } else {
            Self::Gitignore
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Gitignore => ".gitignore",
            Self::Skyignore => ".skyignore",
        }
    }
}

impl fmt::Display for IgnoreFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "`{}`", self.name())
    }
}

impl Paths {
    /// Adds a path; a folder ends with `/`.
    pub(crate) fn add(&mut self, path: String) {
        self.count += 1;
        self.first.insert(path);
        // The same ones are named on every machine.
        if self.first.len() > NAMED {
            self.first.pop_last();
        }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }
}

/// Up to three paths, and how many more there are.
impl fmt::Display for Paths {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, path) in self.first.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(formatter, "{comma}`{}`", crate::text::shortened(path))?;
        }
        match self.count - self.first.len() {
            0 => Ok(()),
            more => write!(formatter, " and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Paths;

    #[test]
    fn the_first_three_paths_are_named_in_order() {
        let text = |names: &[&str]| {
            let mut paths = Paths::default();
            names.iter().for_each(|name| paths.add((*name).to_owned()));
            paths.to_string()
        };
        assert_eq!(text(&["b"]), "`b`");
        assert_eq!(text(&["d", "b/", "e", "a", "c"]), "`a`, `b/`, `c` and 2 more");
    }
}
