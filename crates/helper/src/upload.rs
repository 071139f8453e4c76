//! Sends a file set to the server, and resumes what breaks off.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use files::{ContentHash, ManifestHash};
use futures::{StreamExt, TryStreamExt, stream};
use serde::Deserialize;
use tokio::sync::mpsc;

use crate::error::Error;
use crate::origin::{Failure, Reply, transient};
use crate::outage::{Outage, Pauses};
use crate::progress::NodeLog;
use crate::source::Source;

/// How many packs are on their way at once, each of up to 8 MiB.
const CONCURRENT_PACKS: usize = 2;

/// How often as many contents may be missing as before, although all of them were sent.
const MAX_FRUITLESS_ROUNDS: u32 = 4;

/// The upload of a file set.
pub(crate) struct Upload {
    source: Source,
    outage: Outage,
}

/// What the server answers to a manifest.
#[derive(Deserialize)]
struct ManifestResponse {
    missing: Vec<String>,
}

impl Upload {
    pub(crate) fn new(source: Source, patience: Duration) -> Self {
        Self {
            source,
            outage: Outage::new(patience, Arc::new(NodeLog::new())),
        }
    }

    /// Whether the server may have outputs of an earlier attempt.
    pub(crate) fn replaces(&self) -> bool {
        self.source.has_predecessor()
    }

    /// Sends the manifest and what is missing, until nothing is. `read` sends packs of the contents that it is asked for, and
    /// runs on a thread of its own.
    pub(crate) async fn run<R>(&self, set: ManifestHash, manifest: Bytes, read: R) -> Result<(), Error>
    where
        R: Fn(HashSet<ContentHash>, mpsc::Sender<Bytes>) -> Result<(), Error> + Send + Sync + 'static,
    {
        let (read, mut fewest, mut fruitless) = (Arc::new(read), usize::MAX, 0);
        loop {
            let missing = self.put_manifest(&set, &manifest).await?;
            if missing.is_empty() {
                return Ok(());
            }
            if missing.len() < fewest {
                (fewest, fruitless) = (missing.len(), 0);
            } else {
                fruitless += 1;
            }
            if fruitless >= MAX_FRUITLESS_ROUNDS {
                let url = self.source.base().await.unwrap_or_default();
                return Err(Error::NotKept { url });
            }
            // One pack waits, so that the disk and the line are busy at the same time.
            let (sender, packs) = mpsc::channel(1);
            let reading = Arc::clone(&read);
            let reading = tokio::task::spawn_blocking(move || reading(missing, sender));
            let packs = stream::unfold(packs, async |mut packs| Some((packs.recv().await?, packs)));
            let sending = packs
                .map(|pack| self.send_pack(pack))
                .buffer_unordered(CONCURRENT_PACKS)
                .try_for_each(async |()| Ok(()));
            let sent = sending.await;
            let read = reading.await;
            // A file that cannot be read ends the packs early.
            read.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?;
            sent?;
        }
    }

    /// Sends the manifest, and returns what the server does not have.
    async fn put_manifest(&self, set: &ManifestHash, manifest: &Bytes) -> Result<HashSet<ContentHash>, Error> {
        let put = async || {
            let url = format!("{}/outputs/{set}", self.source.base().await?);
            let request = self.source.client.put(&url).body(manifest.clone());
            let Reply { url, response } = self.source.send(url, request).await?;
            let answer = response.bytes().await.map_err(transient)?;
            let unexpected = || {
                let (url, what) = (url.clone(), "something other than what is missing");
                Failure::Final(Error::Unexpected { url, what })
            };
            let answer: ManifestResponse = serde_json::from_slice(&answer).map_err(|_| unexpected())?;
            let hashes = answer.missing.iter().map(|hash| hash.parse().map_err(|_| unexpected()));
            hashes.collect()
        };
        self.patiently(put).await
    }

    async fn send_pack(&self, pack: Bytes) -> Result<(), Error> {
        let post = async || {
            let url = format!("{}/outputs/contents", self.source.base().await?);
            let request = self.source.client.post(&url).body(pack.clone());
            self.source.send(url, request).await.map(drop)
        };
        self.patiently(post).await
    }

    async fn patiently<T>(&self, request: impl AsyncFn() -> Result<T, Failure<Error>>) -> Result<T, Error> {
        let mut pauses = Pauses::new();
        // Files may have been read for longer than the patience.
        self.outage.end();
        loop {
            match request().await {
                Ok(answer) => {
                    self.outage.end();
                    return Ok(answer);
                }
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Transient(why)) => {
                    self.outage.continue_after(why)?;
                    pauses.pause().await;
                }
            }
        }
    }
}
