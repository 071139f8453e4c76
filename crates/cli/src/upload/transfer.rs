//! Sends the manifest and the contents of a folder that the server does not have, and resumes after outages.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use files::{ContentHash, HumanSize};
use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::mpsc;

use super::folder::Folder;
use super::notes::Sent;
use super::progress::Progress;
use super::{Verbosity, notes};
use crate::client::{FilesUploadResponse, Outage};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::output::{plural, print_message};

/// How many packs are on their way at once: enough to fill a long line, and at most 32 MiB in memory.
const MAX_PACKS: usize = 4;

/// How often as many contents may be missing as before, although they were sent.
const MAX_FRUITLESS_ROUNDS: u32 = 4;

/// Pause after a failure; doubles up to the maximum while the server is unreachable.
const INITIAL_BACKOFF: Duration = Duration::from_millis(100);
const MAX_BACKOFF: Duration = Duration::from_secs(2);

/// An upload of one folder.
pub(super) struct Transfer<'a> {
    context: &'a Context,
    /// The folder as the user wrote it.
    written: &'a str,
    folder: &'a Arc<Folder>,
    progress: &'a Progress,
    /// The length of each content.
    lengths: BTreeMap<ContentHash, u32>,
    /// All contents that were missing at some time.
    sent: HashSet<ContentHash>,
}

impl<'a> Transfer<'a> {
    pub(super) fn new(context: &'a Context, written: &'a str, folder: &'a Arc<Folder>, progress: &'a Progress) -> Self {
        Self {
            context,
            written,
            folder,
            progress,
            lengths: folder.manifest.contents(),
            sent: HashSet::new(),
        }
    }

    /// Sends what is missing until nothing is, and returns how much it was.
    pub(super) async fn run(&mut self, verbosity: Verbosity) -> Result<Sent> {
        let mut outage = Outage::default();
        let mut backoff = INITIAL_BACKOFF;
        let mut fruitless = 0;
        let mut fewest_missing = usize::MAX;
        loop {
            let failure = match self.put_manifest().await {
                Ok(missing) if missing.is_empty() => {
                    self.progress.suspend(|| outage.end());
                    return Ok(self.summary());
                }
                Ok(missing) => {
                    self.progress.suspend(|| outage.end());
                    fruitless = if missing.len() < fewest_missing {
                        0
                    } else {
                        fruitless + 1
                    };
                    if fruitless >= MAX_FRUITLESS_ROUNDS {
                        return Err(self.loses_contents(missing.len()));
                    }
                    fewest_missing = fewest_missing.min(missing.len());
                    if self.sent.is_empty() && verbosity == Verbosity::Normal {
                        self.tell(&missing);
                    }
                    self.sent.extend(&missing);
                    let sent = self.send_contents(missing).await;
                    match sent {
                        Ok(()) => {
                            backoff = INITIAL_BACKOFF;
                            continue;
                        }
                        Err(error) => error,
                    }
                }
                Err(error) => error,
            };
            self.progress.suspend(|| outage.retry_or_fail(failure))?;
            // An outage is no fault of what was sent.
            fewest_missing = usize::MAX;
            tokio::time::sleep(backoff).await;
            backoff = (backoff * 2).min(MAX_BACKOFF);
        }
    }

    /// Sends the manifest; returns the contents that the server misses.
    async fn put_manifest(&self) -> Result<HashSet<ContentHash>> {
        let path = format!("/files/{}", self.folder.hash);
        let put = async || {
            let client = &self.context.client;
            let manifest = self.folder.encoded.clone();
            client
                .put_bytes::<FilesUploadResponse>(&path, "application/x-ndjson", manifest)
                .await
        };
        let FilesUploadResponse { missing } = self.progress.during(self.context.with_server(put)).await?;
        let url = || self.context.client.url();
        let missing: HashSet<ContentHash> = missing
            .iter()
            .map(|hash| hash.parse())
            .collect::<Result<_, _>>()
            .map_err(|_| Error::Local(format!("`{}` asks for contents that no file can have", url())))?;
        match missing.iter().find(|hash| !self.lengths.contains_key(hash)) {
            Some(hash) => Err(Error::Local(format!(
                "`{}` asks for the content `{hash}`, which no file has",
                url()
            ))),
            None => Ok(missing),
        }
    }

    async fn send_contents(&self, missing: HashSet<ContentHash>) -> Result<()> {
        self.progress
            .start(&format!("uploading `{}`", self.written), Some(self.bytes_of(&missing)));
        // One pack waits, so that the disk and the line are busy at the same time.
        let (sender, packs) = mpsc::channel(1);
        let folder = Arc::clone(self.folder);
        let reader = tokio::task::spawn_blocking(move || folder.send_packs(missing, &sender));
        let packs = stream::unfold(packs, async |mut packs| Some((packs.recv().await?, packs)));
        let sending = packs
            .map(|pack| self.send_pack(pack))
            .buffer_unordered(MAX_PACKS)
            .try_for_each(async |()| Ok(()));
        let sent = self.progress.during(sending).await;
        let read = reader.await;
        // A file that cannot be read ends the packs early.
        read.map_err(|error| Error::Local(format!("cannot read files: {error}")))??;
        sent
    }

    async fn send_pack(&self, pack: Bytes) -> Result<()> {
        let length = pack.len() as u64;
        self.context
            .client
            .post_bytes("/files/contents", "application/octet-stream", pack)
            .await?;
        self.progress.advance(length);
        Ok(())
    }

    fn bytes_of(&self, contents: &HashSet<ContentHash>) -> u64 {
        let length = |hash| self.lengths.get(hash).copied().map_or(0, u64::from);
        contents.iter().map(length).sum()
    }

    fn summary(&self) -> Sent {
        Sent {
            files: self.folder.files_with(&self.sent),
            bytes: self.bytes_of(&self.sent),
        }
    }

    /// Says what is left out when a folder is sent for the first time, and what of it is large.
    fn tell(&self, missing: &HashSet<ContentHash>) {
        let Folder {
            selection,
            has_skyignore,
            ..
        } = &**self.folder;
        let is_first = missing.len() == self.lengths.len();
        let left_out = notes::left_out(self.written, selection.left_out(), *has_skyignore).filter(|_| is_first);
        let large = notes::large(self.written, self.bytes_of(missing), &selection.largest(3));
        for note in left_out.into_iter().chain(large) {
            self.progress.suspend(|| print_message(&note));
        }
    }

    fn loses_contents(&self, missing: usize) -> Error {
        Error::Local(format!(
            "`{}` does not keep the files of `{}`: {} ({} in all) are missing although they were sent {MAX_FRUITLESS_ROUNDS} times; see the log of the server",
            self.context.client.url(),
            self.written,
            plural(missing, "content"),
            HumanSize(self.bytes_of(&self.sent)),
        ))
    }
}
