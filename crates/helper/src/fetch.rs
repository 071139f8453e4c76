//! Fetches a file set, and writes it to a folder while it arrives.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use files::{Content, Contents, EntryKind, Manifest, ManifestHash, Unpack};
use tokio::sync::mpsc;

use crate::args::Fetch;
use crate::download::{Arriving, Download};
use crate::error::Error;
use crate::origin::{Observer, Origin};
use crate::progress::NodeLog;
use crate::source::Source;

/// How files are written. Unlike their owner, who may have taken away their own rights, the node that fetches them must be able to
/// work with them.
const UNPACK: Unpack = Unpack {
    writable: true,
    resume: true,
};

/// What is fetched, and where it is written.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The file set.
    pub set: ManifestHash,
    /// The directory, which is made if it is absent, and may be a link.
    pub into: PathBuf,
    /// Only the file with this name.
    pub file: Option<String>,
    /// How long nothing may arrive.
    pub patience: Duration,
}

/// Fetches a file set on a node.
pub(crate) fn fetch(args: Fetch) -> Result<(), Error> {
    let source = Source::from_environment()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(Error::io("start", "the event loop"))?;
    let wanted = Wanted {
        set: args.set,
        into: args.into,
        file: args.file,
        patience: args.patience,
    };
    let fetched = runtime.block_on(fetch_from(source, &wanted, Arc::new(NodeLog::new())));
    // What is still on its way is of no use.
    runtime.shutdown_background();
    fetched.map(drop)
}

/// Fetches what is not there yet, and writes it while it arrives. What is there otherwise stays, unless the file set has
/// something of its name. Returns what was wanted.
///
/// # Errors
/// The first error of the origin that is not transient; [`Error`] if nothing has arrived for too long, what arrives is
/// something else, or it cannot be written. What was written until then stays, and is not fetched again.
pub async fn fetch_from<O: Origin>(
    origin: O,
    wanted: &Wanted,
    observer: Arc<dyn Observer>,
) -> Result<Manifest, O::Error> {
    // As `tar` does, which follows links on the way to the target.
    fs::create_dir_all(&wanted.into).map_err(Error::io("make", &wanted.into))?;
    let target = fs::canonicalize(&wanted.into).map_err(Error::io("open", &wanted.into))?;
    let download = Arc::new(Download::new(
        origin,
        wanted.set,
        wanted.patience,
        Arc::clone(&observer),
    ));
    let manifest = download.manifest().await?;
    let manifest = match &wanted.file {
        Some(name) => only(&manifest, name)?,
        None => manifest,
    };
    observer.begin(manifest.total_bytes());
    let (manifest, target) = (Arc::new(manifest), Arc::new(target));
    let missing = {
        let (manifest, target) = (Arc::clone(&manifest), Arc::clone(&target));
        tokio::task::spawn_blocking(move || UNPACK.missing(&manifest, &target))
    };
    let missing = resumed(missing.await).map_err(Error::from)?;
    // The next content waits, so that the disk and the line are busy at the same time.
    let (sender, arriving) = mpsc::channel(1);
    let writing = {
        let (manifest, target) = (Arc::clone(&manifest), Arc::clone(&target));
        tokio::task::spawn_blocking(move || write(&manifest, &target, arriving, &*observer))
    };
    let (written, downloaded) = tokio::join!(writing, download.contents(missing, sender));
    // A download that fails ends the writing, too, and is the reason.
    downloaded?;
    resumed(written)?;
    Ok(Arc::unwrap_or_clone(manifest))
}

/// What a task on another thread has returned. If it panicked, so does this one.
fn resumed<T>(joined: Result<T, tokio::task::JoinError>) -> T {
    joined.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
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

fn write(manifest: &Manifest, target: &Path, mut arriving: Arriving, observer: &dyn Observer) -> Result<(), Error> {
    let mut read = |content: &Content| next(&mut arriving, content);
    UNPACK.write(manifest, target, &mut read as &mut dyn Contents, |done| {
        observer.written(done.bytes)
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
