//! Sends the manifest and the contents of a folder that the server does not have, and resumes after outages.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use files::{ContentHash, HumanSize};
use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::mpsc;

use super::folder::Folder;
use super::notes;
use super::notes::Sent;
use crate::client::{FilesUploadResponse, Outage};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::output::{Progress, plural, print_message};
use crate::task_file::{LocalPart, LocalSource};

/// How many packs are on their way at once: enough to fill a long line, and at most 32 MiB in memory.
const MAX_PACKS: usize = 4;

/// How often as many contents may be missing as before, although they were sent.
const MAX_FRUITLESS_ROUNDS: u32 = 4;

/// How the rounds of an upload went so far.
#[derive(Debug)]
struct Pace {
    /// How many packs are on their way at once.
    packs: usize,
    fewest_missing: usize,
    /// The rounds after which as much was missing as before, although all of it was accepted.
    fruitless: u32,
    /// Whether the last round sent everything.
    was_all_sent: bool,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            packs: MAX_PACKS,
            fewest_missing: usize::MAX,
            fruitless: 0,
            was_all_sent: false,
        }
    }
}

/// An upload of one folder.
pub(super) struct Transfer<'a> {
    context: &'a Context,
    /// The folder as the user wrote it.
    written: &'a str,
    source: &'a LocalSource,
    folder: &'a Arc<Folder>,
    progress: &'a Progress,
    /// The length of each content.
    lengths: BTreeMap<ContentHash, u32>,
    /// All contents that were missing at some time.
    sent: HashSet<ContentHash>,
    /// How many packs the server has accepted.
    accepted: AtomicUsize,
}

impl<'a> Transfer<'a> {
    pub(super) fn new(
        context: &'a Context,
        part: &'a LocalPart,
        folder: &'a Arc<Folder>,
        progress: &'a Progress,
    ) -> Self {
        Self {
            context,
            written: &part.written,
            source: &part.source,
            folder,
            progress,
            lengths: folder.manifest.contents(),
            sent: HashSet::new(),
            accepted: AtomicUsize::new(0),
        }
    }

    /// Sends what is missing until nothing is, and returns how much it was. `outage` says how long to go on without any
    /// progress: with fewer missing contents, or a pack that the server accepts.
    pub(super) async fn run(&mut self, mut outage: Outage, tells_large: bool) -> Result<Sent> {
        let mut pace = Pace::default();
        loop {
            let accepted = self.accepted.load(Ordering::Relaxed);
            let fewest_missing = pace.fewest_missing;
            let failure = match self.round(&mut pace, tells_large).await {
                Ok(is_stored) => {
                    self.progress.suspend(|| outage.end());
                    if is_stored {
                        return Ok(self.summary());
                    }
                    continue;
                }
                Err(error) => error,
            };
            if self.accepted.load(Ordering::Relaxed) > accepted || pace.fewest_missing < fewest_missing {
                outage.restart();
            }
            if matches!(failure, Error::TimedOut(_)) {
                // On a slow line, one pack after another arrives sooner than none of several.
                pace.packs = (pace.packs / 2).max(1);
            }
            self.progress.suspend(|| outage.retry_or_fail(failure))?;
            outage.pause().await;
        }
    }

    /// Asks for what is missing, and sends it. Returns whether nothing was missing.
    async fn round(&mut self, pace: &mut Pace, tells_large: bool) -> Result<bool> {
        let missing = self.put_manifest().await?;
        if missing.is_empty() {
            return Ok(true);
        }
        if missing.len() < pace.fewest_missing {
            pace.fewest_missing = missing.len();
            pace.fruitless = 0;
        } else if pace.was_all_sent {
            pace.fruitless += 1;
        }
        if pace.fruitless >= MAX_FRUITLESS_ROUNDS {
            return Err(self.loses_contents(missing.len()));
        }
        if self.sent.is_empty() && tells_large {
            self.tell_large(&missing);
        }
        self.sent.extend(&missing);
        // What an outage has kept from the server is not lost by it.
        pace.was_all_sent = false;
        self.send_contents(missing, pace.packs).await?;
        pace.was_all_sent = true;
        Ok(false)
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

    async fn send_contents(&self, missing: HashSet<ContentHash>, at_once: usize) -> Result<()> {
        self.progress
            .start(&format!("uploading `{}`", self.written), Some(self.bytes_of(&missing)));
        // One pack waits, so that the disk and the line are busy at the same time.
        let (sender, packs) = mpsc::channel(1);
        let folder = Arc::clone(self.folder);
        let reader = tokio::task::spawn_blocking(move || folder.send_packs(missing, &sender));
        let packs = stream::unfold(packs, async |mut packs| Some((packs.recv().await?, packs)));
        let sending = packs
            .map(|pack| self.send_pack(pack))
            .buffer_unordered(at_once)
            .try_for_each(async |()| Ok(()));
        let sent = self.progress.during(sending).await;
        let read = reader.await;
        // A file that cannot be read ends the packs early.
        read.map_err(|error| Error::Local(format!("cannot read files: {error}")))??;
        sent
    }

    async fn send_pack(&self, pack: Bytes) -> Result<()> {
        let progress = self.progress.clone();
        let client = &self.context.client;
        client
            .post_bytes("/files/contents", "application/octet-stream", pack, move |sent| {
                progress.advance(sent);
            })
            .await?;
        self.accepted.fetch_add(1, Ordering::Relaxed);
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

    /// Says what of a folder is large when it is sent for the first time.
    fn tell_large(&self, missing: &HashSet<ContentHash>) {
        let selection = &self.folder.selection;
        if self.source.everything {
            return;
        }
        let file = selection.left_out().ignore_file;
        if let Some(note) = notes::large(self.written, self.bytes_of(missing), &selection.largest(3), file) {
            self.progress.suspend(|| print_message(&note));
        }
    }

    fn loses_contents(&self, missing: usize) -> Error {
        Error::Local(format!(
            "`{}` still lacks files of `{}` after {MAX_FRUITLESS_ROUNDS} uploads: {} ({} in all); see the server's log",
            self.context.client.url(),
            self.written,
            plural(missing, "content"),
            HumanSize(self.bytes_of(&self.sent)),
        ))
    }
}
