//! Reads what a receiver lacks, as packs.

use std::collections::HashSet;

use bytes::Bytes;

use crate::contents::Sources;
use crate::error::Error;
use crate::hash::ContentHash;
use crate::manifest::Manifest;
use crate::pack::PackBuilder;
use crate::selection::Selection;

/// Reads the wanted contents in the order of the files, and gives packs of them to `send` until it takes no more.
///
/// # Errors
///
/// Those of [`Sources::read`].
pub fn send_packs<'a>(
    parts: impl IntoIterator<Item = (&'a Selection, &'a Manifest)>,
    mut wanted: HashSet<ContentHash>,
    mut send: impl FnMut(Bytes) -> bool,
) -> Result<(), Error> {
    let mut builder = PackBuilder::new();
    for (selection, manifest) in parts {
        let sources = Sources::new(selection, manifest);
        let contents = manifest.entries().iter().flat_map(|entry| entry.kind.contents());
        for content in contents {
            if wanted.remove(content.hash()) {
                let full = builder.push(&sources.read(content.hash())?)?;
                if full.is_some_and(|pack| !send(pack)) {
                    return Ok(());
                }
            }
        }
    }
    if let Some(pack) = builder.finish() {
        // A receiver that takes no more has a reason of its own.
        send(pack);
    }
    Ok(())
}
