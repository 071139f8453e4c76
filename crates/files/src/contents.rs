//! Where the bytes of contents come from: a store, or the files of a selection.

use std::collections::HashMap;
use std::io;
use std::os::unix::fs::FileExt;

use bytes::Bytes;

use crate::content::Content;
use crate::error::Error;
use crate::hash::ContentHash;
use crate::manifest::Manifest;
use crate::selection::{FoundKind, Selection, Since, open, since};

/// Gives the bytes of contents. Their reader checks them, so nobody has to be trusted.
pub trait Contents {
    /// The bytes of a content.
    ///
    /// # Errors
    ///
    /// If they cannot be got.
    fn read(&mut self, content: &Content) -> io::Result<Bytes>;
}

impl<F: FnMut(&Content) -> io::Result<Bytes>> Contents for F {
    fn read(&mut self, content: &Content) -> io::Result<Bytes> {
        self(content)
    }
}

/// Reads contents again from the files of a selection, e.g., to send those that the receiver does not have.
#[derive(Debug)]
pub struct Sources<'a> {
    selection: &'a Selection,
    /// The place of an entry that has the content, where in it, and the length.
    places: HashMap<ContentHash, (usize, u64, u32)>,
}

impl<'a> Sources<'a> {
    /// The contents of a selection and its manifest.
    #[must_use]
    pub fn new(selection: &'a Selection, manifest: &Manifest) -> Self {
        let mut places = HashMap::new();
        for entry in manifest.entries() {
            let found = selection
                .entries()
                .binary_search_by(|found| found.path.cmp(&entry.path));
            let mut offset = 0;
            for content in entry.kind.contents() {
                if let Ok(index) = found {
                    places
                        .entry(*content.hash())
                        .or_insert((index, offset, content.length()));
                }
                offset += u64::from(content.length());
            }
        }
        Self { selection, places }
    }

    /// The bytes of a content.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or has other bytes there since the walk, or no file has the content.
    /// [`Error::Unnoticed`] if it has other bytes, but the same times: then the cache is wrong.
    pub fn read(&self, hash: &ContentHash) -> Result<Bytes, Error> {
        let unknown = || Error::UnknownContent { hash: *hash };
        let (index, offset, length) = *self.places.get(hash).ok_or_else(unknown)?;
        let found = self.selection.entries().get(index).ok_or_else(unknown)?;
        let FoundKind::File { stamp, .. } = &found.kind else {
            return Err(unknown());
        };
        let place = self.selection.place(&found.path);
        let changed = || Error::Changed { path: place.clone() };
        let file = open(&place)?.ok_or_else(changed)?;
        let now = since(&file, &place, stamp)?;
        let mut bytes = vec![0; length as usize];
        file.read_exact_at(&mut bytes, offset)
            .map_err(|source| match source.kind() {
                io::ErrorKind::UnexpectedEof => changed(),
                _ => Error::io("read", &place)(source),
            })?;
        // The bytes say more than the time: what was only added to the file does not matter, and a file system may tell
        // a change late, or not at all.
        if ContentHash::of(&bytes) != *hash {
            return Err(match now {
                Since::Same => Error::Unnoticed { path: place },
                Since::Longer | Since::Other => changed(),
            });
        }
        Ok(bytes.into())
    }
}

impl Contents for Sources<'_> {
    fn read(&mut self, content: &Content) -> io::Result<Bytes> {
        Sources::read(self, content.hash()).map_err(io::Error::other)
    }
}
