//! Uploads the folders and files of this machine that tasks copy, as far as the server does not have them.
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
#[cfg(test)]
mod tests;
mod transfer;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use files::{HashCache, HumanSize, Walk};

use self::folder::Folder;
use self::transfer::Transfer;
use crate::client::{FileLimitsResponse, MAX_OUTAGE, Outage, patiently};
use crate::context::Context;
use crate::dirs;
use crate::error::{Error, Result};
use crate::field_error::FieldError;
use crate::output::{Progress, plural, print_message};
use crate::task_file::{FileSets, LocalPart, TaskParts, TaskSet};

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

/// What the server says if it has deleted the files between their upload and the submit.
const FILES_GONE: &str = "files are not stored";

/// What it says if there is no room for them.
pub(crate) const FILES_TOO_LARGE: &str = "leave out large files";

/// A folder or a file that the server has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Uploaded {
    /// The ID of its file set.
    pub id: String,
    pub files: usize,
    pub bytes: u64,
}

/// `12 files (3.4 MiB)`.
impl fmt::Display for Uploaded {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({})", plural(self.files, "file"), HumanSize(self.bytes))
    }
}

/// Whether a submit failed because the server has deleted files meanwhile.
pub(crate) fn are_files_gone(error: &Error) -> bool {
    let is_gone = |error: &FieldError| error.msg.contains(FILES_GONE);
    matches!(error, Error::Invalid { errors, .. } if errors.iter().any(is_gone))
        || matches!(error, Error::Server(message) if message.status == Some(422) && message.text.contains(FILES_GONE))
}

/// Marks the directory as a cache, so that it is not copied with the folder that it is in
/// (<https://bford.info/cachedir/>). Without the mark, an upload of the home directory could fail.
fn mark_cache(directory: &Path) {
    let mark = directory.join("CACHEDIR.TAG");
    if !mark.exists() {
        let text = "Signature: 8a477f597d28d172789f06886806bc55\n# This is a cache of k8s-cli; it can be deleted.\n";
        let _ = std::fs::create_dir_all(directory).and_then(|()| std::fs::write(mark, text));
    }
}

/// Uploads the parts of the tasks that are on this machine, each folder and file once.
///
/// # Errors
/// [`Error::InvalidTask`] if a folder cannot be copied, e.g., because it is too large. Errors of the server as they
/// are, after retries.
pub(crate) async fn upload(
    context: &Context,
    tasks: &TaskSet,
    parts: &[TaskParts],
    verbosity: Verbosity,
    known: Known,
) -> Result<FileSets> {
    let mut sets = FileSets::new();
    if parts.iter().all(|of_task| of_task.parts.is_empty()) {
        return Ok(sets);
    }
    let uploader = Uploader::new(context, verbosity, known).await?;
    for TaskParts { file, parts, .. } in parts {
        for part in parts {
            if sets.contains_key(&part.source) {
                continue;
            }
            let uploaded = uploader.upload(part).await.map_err(|error| match error {
                Error::Files(error) => {
                    let message = notes::remedy(error, &part.written, &part.source);
                    Error::InvalidTask(tasks.report_part(*file, part, &message))
                }
                other => other,
            })?;
            sets.insert(part.source.clone(), uploaded.id);
        }
    }
    Ok(sets)
}

/// Uploads one folder or file that is in no task file.
///
/// # Errors
/// [`Error::Usage`] if it cannot be copied. Errors of the server as they are, after retries.
pub(crate) async fn upload_part(
    context: &Context,
    part: &LocalPart,
    verbosity: Verbosity,
    known: Known,
) -> Result<Uploaded> {
    let uploader = Uploader::new(context, verbosity, known).await?;
    uploader.upload(part).await.map_err(|error| match error {
        Error::Files(error) => Error::Usage(notes::remedy(error, &part.written, &part.source)),
        other => other,
    })
}

/// The cache in this directory. Without one, every file is read again each time.
fn cache(directory: Option<&Path>) -> HashCache {
    match directory {
        Some(directory) => {
            mark_cache(directory);
            HashCache::open(directory.join("files"))
        }
        None => HashCache::none(),
    }
}

/// What of the files of a task is largest, and what to do, for a server that takes less.
pub(crate) fn largest(task: &TaskParts) -> Option<String> {
    let selections = task.parts.iter().filter_map(|part| {
        let walk = Walk {
            limits: files::Limits::NONE,
            everything: part.source.everything,
        };
        let is_folder = part.source.file_name.is_none();
        Some((part, is_folder.then(|| walk.folder(&part.source.path).ok())??))
    });
    let (part, selection) = selections.max_by_key(|(_, selection)| selection.total_bytes())?;
    notes::largest(&part.written, &selection)
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
    cache: Arc<HashCache>,
    verbosity: Verbosity,
    known: Known,
    /// How long an upload may make no progress.
    patience: Duration,
}

impl<'a> Uploader<'a> {
    async fn new(context: &'a Context, verbosity: Verbosity, known: Known) -> Result<Self> {
        Ok(Self {
            context,
            limits: limits(context).await?,
            cache: Arc::new(cache(dirs::cache().ok().as_deref())),
            verbosity,
            known,
            patience: MAX_OUTAGE,
        })
    }

    /// Uploads a folder or a file.
    async fn upload(&self, part: &LocalPart) -> Result<Uploaded> {
        let mut reads = 1;
        loop {
            let is_first = reads == 1;
            match self.try_upload(part, is_first).await {
                Err(Error::Files(error)) if reads < MAX_READS && has_changed(&error) => {
                    if matches!(error, files::Error::Unnoticed { .. }) {
                        self.cache.forget(&part.source.path);
                    }
                    reads += 1;
                }
                result => return result,
            }
        }
    }

    async fn try_upload(&self, part: &LocalPart, is_first: bool) -> Result<Uploaded> {
        let progress = Progress::new(self.verbosity == Verbosity::Normal);
        let folder = self.read(part, &progress).await?;
        let tells = self.verbosity == Verbosity::Normal;
        if tells {
            self.tell_left_out(part, &folder);
        }
        let uploaded = Uploaded {
            id: folder.hash.to_string(),
            files: folder.files(),
            bytes: folder.manifest.total_bytes(),
        };
        let path = format!("/files/{}", uploaded.id);
        let is_stored = async || self.context.client.exists(&path).await;
        if self.known == Known::Ask && patiently(async || self.context.with_server(is_stored).await).await? {
            return Ok(uploaded);
        }
        let folder = Arc::new(folder);
        self.check_packed(&folder, part, &progress).await?;
        let outage = Outage::with_patience(self.patience);
        let mut transfer = Transfer::new(self.context, part, &folder, &progress);
        let sent = transfer.run(outage, tells && is_first).await;
        progress.clear();
        let sent = sent.map_err(|error| notes::with_largest(error, part, &folder.selection))?;
        if tells && let Some(summary) = notes::summary(&part.written, &sent) {
            print_message(&summary);
        }
        Ok(uploaded)
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

    /// Says what is left out of a folder, unless that was said before.
    fn tell_left_out(&self, part: &LocalPart, folder: &Folder) {
        let left_out = folder.selection.left_out();
        if let Some(note) = notes::left_out(&part.written, left_out)
            && self.cache.is_news(&part.source.path, &notes::news(left_out))
        {
            print_message(&note);
        }
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

/// Whether another try may find a folder that does not change.
fn has_changed(error: &files::Error) -> bool {
    matches!(error, files::Error::Changed { .. } | files::Error::Unnoticed { .. })
}
