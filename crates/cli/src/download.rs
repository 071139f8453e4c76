//! Downloads what tasks have kept, as far as it is not here yet.

use std::path::Path;
use std::sync::Arc;

use files::{Content, EntryKind, HumanSize, Limits, Manifest, ManifestHash};
use helper::{ContentsRequest, Failure, Observer, Origin, Reply, Wanted, fetch_from};

use crate::client::{Client, MAX_OUTAGE, OutputsResponse, is_transient};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::output::{Progress, plural, print_message};
use crate::resources::percent_encode;

/// The outputs of a task.
///
/// # Errors
/// [`Error::NotFound`] if nothing was kept.
pub(crate) async fn find_outputs(context: &Context, task: &str) -> Result<OutputsResponse> {
    let path = format!("/tasks/{}/outputs", percent_encode(task));
    context.client.get(&path).await
}

/// What is in the outputs of a task.
pub(crate) async fn read_manifest(context: &Context, task: &str, outputs: &OutputsResponse) -> Result<Manifest> {
    let set = parse_id(context, outputs)?;
    let path = format!("/tasks/{}/outputs/manifest", percent_encode(task));
    let bytes = context.client.get_bytes(&path).await?;
    if ManifestHash::of(&bytes) != set {
        return Err(Error::Local(format!(
            "`{}` sent something other than the manifest",
            context.client.url()
        )));
    }
    Ok(Manifest::parse(&bytes, &Limits::NONE)?)
}

/// Writes the outputs of a task to a folder. What is there already stays, unless the outputs have something of its name. `what` names
/// them for the user.
///
/// # Errors
/// Errors of the server as they are, after retries, and [`Error::Local`] if something cannot be written.
pub(crate) async fn download(
    context: &Context,
    (task, outputs): (&str, &OutputsResponse),
    into: &Path,
    what: &str,
) -> Result<Manifest> {
    let progress = Progress::new(true);
    let wanted = Wanted {
        set: parse_id(context, outputs)?,
        into: into.to_owned(),
        file: None,
        patience: MAX_OUTAGE,
    };
    let observer = Arc::new(Shown {
        progress: progress.clone(),
        what: format!("downloading `{what}`"),
    });
    let origin = OfTask {
        client: context.client.clone(),
        path: format!("/tasks/{}/outputs", percent_encode(task)),
    };
    let fetched = progress.during(fetch_from(origin, &wanted, observer)).await;
    progress.clear();
    fetched
}

/// How much a manifest is, e.g., `12 files (3.4 MiB)`.
pub(crate) fn summary(manifest: &Manifest) -> String {
    let is_file = |kind: &EntryKind| matches!(kind, EntryKind::File { .. });
    let files = manifest.entries().iter().filter(|entry| is_file(&entry.kind)).count();
    format!("{} ({})", plural(files, "file"), HumanSize(manifest.total_bytes()))
}

fn parse_id(context: &Context, outputs: &OutputsResponse) -> Result<ManifestHash> {
    let invalid = |_| {
        let url = context.client.url();
        Error::Local(format!("`{url}` sent `{}`, which is no file set", outputs.files))
    };
    outputs.files.parse().map_err(invalid)
}

/// The outputs of a task, on the server.
struct OfTask {
    client: Client,
    path: String,
}

/// A task has one file set, so that no request names it. The download checks that it is the right one.
impl Origin for OfTask {
    type Error = Error;

    async fn manifest(&self, _set: &ManifestHash) -> Result<Reply, Failure<Error>> {
        let path = format!("{}/manifest", self.path);
        self.reply(self.client.stream(&path).await, &path)
    }

    async fn contents(&self, _set: &ManifestHash, contents: &[Content]) -> Result<Reply, Failure<Error>> {
        let path = format!("{}/contents", self.path);
        let body = ContentsRequest::new(contents);
        self.reply(self.client.stream_post(&path, &body).await, &path)
    }
}

impl OfTask {
    fn reply(&self, result: Result<reqwest::Response>, path: &str) -> Result<Reply, Failure<Error>> {
        match result {
            Ok(response) => Ok(Reply {
                url: format!("{}{path}", self.client.url()),
                response,
            }),
            Err(error) if is_transient(&error) => Err(Failure::Transient(error.message())),
            Err(error) => Err(Failure::Final(error)),
        }
    }
}

/// Nothing is wrong with the command, so that its exit code is that of a failure.
impl From<helper::Error> for Error {
    fn from(error: helper::Error) -> Self {
        Self::Local(error.to_string())
    }
}

/// The progress on a terminal.
struct Shown {
    progress: Progress,
    what: String,
}

impl Observer for Shown {
    fn begin(&self, bytes: u64) {
        self.progress.start(&self.what, Some(bytes));
    }

    fn written(&self, bytes: u64) {
        self.progress.set(bytes);
    }

    fn wait(&self, why: &str) {
        self.progress.suspend(|| print_message(&format!("{why}; retrying")));
    }

    fn resume(&self) {
        self.progress.suspend(|| print_message("reconnected"));
    }
}

#[cfg(test)]
mod tests;
