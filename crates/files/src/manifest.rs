//! A manifest: what is in a folder, as bytes that are the same on every machine.
//!
//! ```text
//! {"manifest":1}
//! {"path":"src","kind":"directory","mode":"755"}
//! {"path":"src/train.py","kind":"file","mode":"644","mtime":1764201600,"contents":[["9f86d0...",1834]]}
//! {"path":"src/latest","kind":"link","target":"train.py"}
//! ```
//!
//! A line for each entry, sorted by path. There is one way to write a manifest: whatever is written otherwise is refused.
//! The folder itself is no entry, and its mode is not kept. The size of a file is the sum of its contents. A manifest of an
//! older client has no `mtime`.

use std::collections::BTreeMap;

use crate::content::Content;
use crate::entry::{Entry, EntryKind};
use crate::error::Error;
use crate::hash::{ContentHash, ManifestHash};
use crate::heaviest::{Heavy, Weight, heaviest};
use crate::limits::Limits;
use crate::tree::{self, Shape};

/// The first line: the version of the format.
const HEADER: &[u8] = b"{\"manifest\":1}\n";

/// The longest reason in an error, in characters. A path that is named in it fits, unless it is made not to.
const MAX_REASON: usize = 5000;

/// How many paths an error names.
pub(crate) const NAMED_PATHS: usize = 5;

/// What is in a folder: a tree that can be written without harm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    entries: Vec<Entry>,
}

impl Manifest {
    /// A manifest of these entries, which must be sorted.
    ///
    /// # Errors
    ///
    /// If the entries are no tree: unsorted, listed twice, not in a folder that is listed; or if a link leads out of it.
    /// If a content is listed with two lengths.
    pub fn new(entries: Vec<Entry>) -> Result<Self, Error> {
        tree::check(entries.iter().map(|entry| (&entry.path, shape(&entry.kind))))?;
        let manifest = Self { entries };
        let mut lengths: Vec<_> = manifest.all_contents().collect();
        lengths.sort_unstable();
        lengths.dedup();
        match lengths
            .array_windows()
            .find(|[left, right]| left.hash() == right.hash())
        {
            Some([content, _]) => Err(Error::Lengths { hash: *content.hash() }),
            None => Ok(manifest),
        }
    }

    /// The manifest of an empty folder.
    #[must_use]
    pub fn empty() -> Self {
        Self { entries: Vec::new() }
    }

    /// Reads a manifest that anybody may have written.
    ///
    /// # Errors
    ///
    /// If the bytes are not exactly what [`Self::encode`] makes of a manifest, or it is larger than the limits.
    pub fn parse(bytes: &[u8], limits: &Limits) -> Result<Self, Error> {
        if bytes.len() > limits.max_manifest_bytes {
            let limit = limits.max_manifest_bytes;
            let heaviest = Vec::new();
            return Err(Error::ManifestTooLarge { limit, heaviest });
        }
        let invalid = |line, reason: &str| Error::Manifest {
            line,
            // It may say something of the line, which may be as long as the manifest.
            reason: reason.chars().take(MAX_REASON).collect(),
        };
        let lines = bytes
            .strip_prefix(HEADER)
            .ok_or_else(|| invalid(1, "it is not `{\"manifest\":1}`"))?;
        // Counting is quick; a million lines are refused before any is read.
        let count = memchr::memchr_iter(b'\n', lines).count();
        if count > limits.max_entries {
            return Err(Error::TooManyEntries {
                limit: limits.max_entries,
                heaviest: Vec::new(),
            });
        }
        if !lines.is_empty() && !lines.ends_with(b"\n") {
            return Err(invalid(count + 2, "it has no end"));
        }
        let mut entries = Vec::with_capacity(count);
        let mut total: u64 = 0;
        for (number, line) in lines.split_inclusive(|byte| *byte == b'\n').enumerate() {
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            let entry = Entry::read_line(line).map_err(|reason| invalid(number + 2, &reason))?;
            total = total.saturating_add(entry.kind.size());
            entries.push(entry);
        }
        let manifest = Self::new(entries)?;
        if total > limits.max_total_bytes {
            return Err(Error::TooLarge {
                limit: limits.max_total_bytes,
                bytes: total,
                heaviest: manifest.largest(NAMED_PATHS),
            });
        }
        Ok(manifest)
    }

    /// The bytes of the manifest.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = HEADER.to_vec();
        for entry in &self.entries {
            entry.write_line(&mut bytes);
        }
        bytes
    }

    /// The name of the manifest: the hash of its bytes. It encodes the manifest; a caller that has the bytes hashes those.
    #[must_use]
    pub fn hash(&self) -> ManifestHash {
        ManifestHash::of(&self.encode())
    }

    /// What is in the folder, sorted by path.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The bytes of all files together.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.entries
            .iter()
            .map(|entry| entry.kind.size())
            .fold(0, u64::saturating_add)
    }

    /// The different contents of all files, with their lengths.
    #[must_use]
    pub fn contents(&self) -> BTreeMap<ContentHash, u32> {
        self.all_contents()
            .map(|content| (*content.hash(), content.length()))
            .collect()
    }

    /// At most `count` files and folders that make most of the size, the largest first.
    #[must_use]
    pub fn largest(&self, count: usize) -> Vec<Heavy> {
        let entries = self.entries.iter().map(|entry| {
            let is_directory = matches!(entry.kind, EntryKind::Directory { .. });
            (&entry.path, entry.kind.size(), is_directory)
        });
        heaviest(entries, count, Weight::Bytes)
    }

    fn all_contents(&self) -> impl Iterator<Item = Content> {
        self.entries
            .iter()
            .flat_map(|entry| entry.kind.contents().iter().copied())
    }
}

fn shape(kind: &EntryKind) -> Shape<'_> {
    match kind {
        EntryKind::Directory { .. } => Shape::Directory,
        EntryKind::File { .. } => Shape::File,
        EntryKind::Link { target } => Shape::Link(target),
    }
}

#[cfg(test)]
mod tests;
