//! A folder or a file as it is now: what is in it, and its contents in packs.

use std::collections::HashSet;

use bytes::Bytes;
use files::{
    ContentHash, EntryPath, HashCache, Limits, Manifest, ManifestHash, Selection, Sources, Tar, Walk, send_packs,
};
use tokio::sync::mpsc;

use crate::error::{Error, Result};
use crate::output::Progress;
use crate::task_file::LocalSource;

/// How much of the limit for compressed files another version of the library for it may save, as a fraction.
const COMPRESSION_TOLERANCE: u64 = 50;

/// How many paths an error names.
const NAMED_PATHS: usize = 5;

/// A folder or a file that was read.
#[derive(Debug)]
pub(super) struct Folder {
    pub selection: Selection,
    pub manifest: Manifest,
    /// The manifest as it is sent.
    pub encoded: Bytes,
    pub hash: ManifestHash,
}

impl Folder {
    /// Walks a folder, and reads the files in it that `cache` does not know. Takes long for a large one.
    pub(super) fn read(source: &LocalSource, limits: Limits, cache: &HashCache, progress: &Progress) -> Result<Self> {
        let walk = Walk {
            limits,
            everything: source.everything,
        };
        let selection = match &source.file_name {
            None => walk.folder(&source.path)?,
            Some(name) => walk.file(
                &source.path,
                EntryPath::new(name.as_bytes()).map_err(files::Error::from)?,
            )?,
        };
        progress.set_total(selection.total_bytes());
        let manifest = selection.manifest(cache, |done| progress.set(done.bytes))?;
        let encoded = Bytes::from(manifest.encode());
        Ok(Self {
            hash: ManifestHash::of(&encoded),
            selection,
            manifest,
            encoded,
        })
    }

    /// Fails if the files certainly have more than `limit` bytes when the server compresses them.
    pub(super) fn check_packed(&self, limit: u64) -> Result<()> {
        if self.manifest.total_bytes() <= limit {
            return Ok(());
        }
        let mut sources = Sources::new(&self.selection, &self.manifest);
        let certain = limit + limit / COMPRESSION_TOLERANCE;
        match (Tar { writable: true }).gz_within(&self.manifest, &mut sources, certain) {
            Ok(None) => Err(Error::Files(files::Error::PackedTooLarge {
                limit,
                heaviest: self.manifest.largest(NAMED_PATHS),
            })),
            // A file that cannot be read anymore is one of the upload, which reads it again.
            Ok(Some(_)) | Err(_) => Ok(()),
        }
    }

    /// Reads contents in the order of the files, and sends them on in packs until nobody takes them anymore.
    pub(super) fn send_packs(&self, wanted: HashSet<ContentHash>, packs: &mpsc::Sender<Bytes>) -> Result<()> {
        let parts = [(&self.selection, &self.manifest)];
        Ok(send_packs(parts, wanted, |pack| packs.blocking_send(pack).is_ok())?)
    }

    /// The number of files.
    pub(super) fn files(&self) -> usize {
        let is_file = |entry: &&files::Entry| matches!(entry.kind, files::EntryKind::File { .. });
        self.manifest.entries().iter().filter(is_file).count()
    }

    /// The number of files that have one of these contents.
    pub(super) fn files_with(&self, contents: &HashSet<ContentHash>) -> usize {
        let has_one = |entry: &&files::Entry| {
            let mut of_entry = entry.kind.contents().iter();
            of_entry.any(|content| contents.contains(content.hash()))
        };
        self.manifest.entries().iter().filter(has_one).count()
    }
}

impl From<files::Error> for Error {
    fn from(error: files::Error) -> Self {
        Self::Files(error)
    }
}
