//! Uploads the folders and files of this machine that tasks take along, as far as the server does not have them.
//!
//! ```text
//! GET /files                limits, for the walk
//! GET /files/HASH           found: nothing else is sent
//! PUT /files/HASH           the manifest; answers with the contents that are missing
//! POST /files/contents      packs of these, a few at a time; then the manifest again
//! ```
//!
//! What was sent stays sent: after an outage, or in the next run of the command, only the rest is missing.

mod folder;
mod notes;
mod progress;
#[cfg(test)]
mod tests;
mod transfer;

use std::path::Path;
use std::sync::{Arc, Mutex};

use files::HashCache;

use self::folder::Folder;
use self::progress::Progress;
use self::transfer::Transfer;
use crate::client::FileLimitsResponse;
use crate::context::Context;
use crate::dirs;
use crate::error::{Error, Result};
use crate::output::print_message;
use crate::task_file::{FileSets, LocalPart, TaskSet};

/// How often a folder is read that changes while it is read.
const MAX_READS: u32 = 3;

/// How much is told about an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verbosity {
    Normal,
    Quiet,
}

/// Whether the server is asked first if it has a file set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    Ask,
    /// The server has just said that it does not.
    No,
}

/// Marks the directory as a cache, so that it is not taken along with the folder that it is in
/// (<https://bford.info/cachedir/>). Without the mark, an upload of the home directory could fail.
fn mark_cache(directory: &Path) {
    let mark = directory.join("CACHEDIR.TAG");
    if !directory.as_os_str().is_empty() && !mark.exists() {
        let text = "Signature: 8a477f597d28d172789f06886806bc55\n# This is a cache of k8s-cli; it can be deleted.\n";
        let _ = std::fs::create_dir_all(directory).and_then(|()| std::fs::write(mark, text));
    }
}

/// Uploads what the tasks take along, each folder and file once.
///
/// # Errors
/// [`Error::InvalidTask`] if a folder cannot be taken along, e.g., because it is too large. Errors of the server as they
/// are, after retries.
pub(crate) async fn upload(context: &Context, tasks: &TaskSet, verbosity: Verbosity, known: Known) -> Result<FileSets> {
    let mut sets = FileSets::new();
    let parts = tasks.local_parts()?;
    if parts.is_empty() {
        return Ok(sets);
    }
    // Without a cache, every file is read again.
    let directory = dirs::cache().unwrap_or_default();
    mark_cache(&directory);
    let cache = Arc::new(Mutex::new(HashCache::open(directory.join("hashes"))));
    let uploader = Uploader {
        context,
        limits: limits(context).await?,
        cache: Arc::clone(&cache),
        verbosity,
        known,
    };
    for (number, part) in parts {
        if sets.contains_key(&part.source) {
            continue;
        }
        let id = uploader.upload(&part).await.map_err(|error| match error {
            Error::Files(error) => Error::InvalidTask(tasks.report_part(number, &part, &notes::remedy(&error))),
            other => other,
        })?;
        sets.insert(part.source, id);
    }
    Ok(sets)
}

/// The limits of the server.
#[derive(Debug, Clone, Copy)]
struct ServerLimits {
    /// Those of a file set.
    of_set: files::Limits,
    /// That of all file sets of a task, compressed.
    max_packed_bytes: Option<u64>,
}

async fn limits(context: &Context) -> Result<ServerLimits> {
    let get = async || context.client.get::<FileLimitsResponse>("/files").await;
    match context.with_server(get).await {
        Ok(FileLimitsResponse { limits }) => Ok(ServerLimits {
            of_set: files::Limits {
                max_entries: limits.max_entries,
                max_total_bytes: limits.max_bytes,
                max_manifest_bytes: limits.max_manifest_bytes,
            },
            max_packed_bytes: limits.max_packed_bytes,
        }),
        Err(Error::NotFound(_)) => Err(Error::OutdatedServer {
            url: context.client.url().to_string(),
        }),
        Err(error) => Err(error),
    }
}

struct Uploader<'a> {
    context: &'a Context,
    limits: ServerLimits,
    cache: Arc<Mutex<HashCache>>,
    verbosity: Verbosity,
    known: Known,
}

impl Uploader<'_> {
    /// Uploads a folder or a file, and returns the ID of its file set.
    async fn upload(&self, part: &LocalPart) -> Result<String> {
        let mut reads = 1;
        loop {
            match self.try_upload(part).await {
                Err(Error::Files(files::Error::Changed { .. })) if reads < MAX_READS => reads += 1,
                result => return result,
            }
        }
    }

    async fn try_upload(&self, part: &LocalPart) -> Result<String> {
        let progress = Progress::new(self.verbosity == Verbosity::Normal);
        let folder = self.read(part, &progress).await?;
        let id = folder.hash.to_string();
        let is_stored = async || self.context.client.exists(&format!("/files/{id}")).await;
        if self.known == Known::Ask && self.context.with_server(is_stored).await? {
            return Ok(id);
        }
        let folder = Arc::new(folder);
        self.check_packed(&folder, part, &progress).await?;
        let mut transfer = Transfer::new(self.context, &part.written, &folder, &progress);
        let sent = transfer.run(self.verbosity).await;
        progress.clear();
        let sent = sent?;
        if self.verbosity == Verbosity::Normal
            && let Some(summary) = notes::summary(&part.written, &sent)
        {
            print_message(&summary);
        }
        Ok(id)
    }

    /// Checks that the server will take the files when it has them: it would refuse the task only after the upload.
    async fn check_packed(&self, folder: &Arc<Folder>, part: &LocalPart, progress: &Progress) -> Result<()> {
        let Some(limit) = self.limits.max_packed_bytes else {
            return Ok(());
        };
        progress.start(&format!("compressing `{}`", part.written), None);
        let folder = Arc::clone(folder);
        let check = tokio::task::spawn_blocking(move || folder.check_packed(limit));
        let checked = progress.during(check).await;
        progress.clear();
        checked.map_err(|error| Error::Local(format!("cannot read files: {error}")))?
    }

    /// Reads a folder on other threads, so that the progress is shown meanwhile.
    async fn read(&self, part: &LocalPart, progress: &Progress) -> Result<Folder> {
        let (source, limits) = (part.source.clone(), self.limits.of_set);
        let (cache, reading) = (Arc::clone(&self.cache), progress.clone());
        progress.start(&format!("reading `{}`", part.written), None);
        let read = tokio::task::spawn_blocking(move || Folder::read(&source, limits, &cache, &reading));
        let folder = progress.during(read).await;
        progress.clear();
        folder.map_err(|error| Error::Local(format!("cannot read files: {error}")))?
    }
}
