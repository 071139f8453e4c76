//! Fetches a file set, and writes it to a folder while it arrives.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use files::{Content, Contents, EntryKind, Manifest, Unpack};
use tokio::sync::mpsc;

use crate::args::Fetch;
use crate::download::{Arriving, Download};
use crate::error::Error;
use crate::progress::Progress;
use crate::source::Source;

/// Fetches a file set.
pub(crate) fn fetch(args: &Fetch) -> Result<(), Error> {
    let source = Source::from_environment()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(Error::io("start", "the event loop"))?;
    let fetched = runtime.block_on(fetch_from(source, args));
    // What is still on its way is of no use.
    runtime.shutdown_background();
    fetched
}

async fn fetch_from(source: Source, args: &Fetch) -> Result<(), Error> {
    // As `tar` does, which follows links on the way to the target.
    fs::create_dir_all(&args.into).map_err(Error::io("make", &args.into))?;
    let target = fs::canonicalize(&args.into).map_err(Error::io("open", &args.into))?;
    let download = Arc::new(Download::new(source, args.set, args.patience));
    let manifest = download.manifest().await?;
    let manifest = match &args.file {
        Some(name) => only(&manifest, name)?,
        None => manifest,
    };
    let wanted = manifest.entries().iter().flat_map(|entry| entry.kind.contents());
    let wanted: Vec<Content> = wanted.copied().collect();
    // The next content waits, so that the disk and the line are busy at the same time.
    let (sender, arriving) = mpsc::channel(1);
    let writing = tokio::task::spawn_blocking(move || write(&manifest, &target, arriving));
    let (written, downloaded) = tokio::join!(writing, download.contents(wanted, sender));
    let written = written.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
    // A download that fails ends the writing, too, and is the reason.
    downloaded.and(written)
}

/// The file set with nothing but a file.
fn only(manifest: &Manifest, name: &str) -> Result<Manifest, Error> {
    let is_wanted = |path: &[u8], kind: &EntryKind| path == name.as_bytes() && matches!(kind, EntryKind::File { .. });
    let entries = manifest.entries().iter();
    let found: Vec<_> = entries
        .filter(|entry| is_wanted(entry.path.as_bytes(), &entry.kind))
        .cloned()
        .collect();
    if found.is_empty() {
        return Err(Error::NoSuchFile { name: name.to_owned() });
    }
    Ok(Manifest::new(found)?)
}

/// Writes the files. What is already at the target stays, unless the file set has something of its name.
fn write(manifest: &Manifest, target: &Path, mut arriving: Arriving) -> Result<(), Error> {
    let mut progress = Progress::of(manifest.total_bytes());
    // Unlike the owner of the files, who may have taken away their own rights, the task must be able to work with them.
    let unpack = Unpack {
        writable: true,
        resume: true,
    };
    let mut read = |content: &Content| next(&mut arriving, content);
    unpack.write(manifest, target, &mut read as &mut dyn Contents, |done| {
        progress.set(done.bytes)
    })?;
    Ok(())
}

/// The bytes of a content. Those before it are of files that are as they should be.
fn next(arriving: &mut Arriving, wanted: &Content) -> io::Result<Bytes> {
    while let Some((content, bytes)) = arriving.blocking_recv() {
        if content == *wanted {
            return Ok(bytes);
        }
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

#[cfg(test)]
mod tests;
