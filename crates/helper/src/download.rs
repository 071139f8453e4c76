//! Downloads a file set, several requests at a time, and resumes what breaks off.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use files::{Content, Limits, Manifest, ManifestHash, PackReader};
use futures::{StreamExt, stream};
use reqwest::Response;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::batches::batches;
use crate::error::Error;
use crate::origin::{Failure, Observer, Origin, Reply, transient};
use crate::outage::{Outage, Pauses};

/// How many requests are on their way at once: enough to fill a long line, and about 32 MiB in memory.
const CONCURRENT_REQUESTS: usize = 4;

/// How long the body of an answer may stall.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);

/// The largest manifest that is read. The server takes 16 MiB.
const MAX_MANIFEST_BYTES: usize = 64 << 20;

/// Contents in the order of the files.
pub(crate) type Arriving = mpsc::Receiver<(Content, Bytes)>;

/// The download of a file set.
pub(crate) struct Download<O> {
    origin: O,
    set: ManifestHash,
    outage: Outage,
}

impl<O: Origin> Download<O> {
    pub(crate) fn new(origin: O, set: ManifestHash, patience: Duration, observer: Arc<dyn Observer>) -> Self {
        Self {
            origin,
            set,
            outage: Outage::new(patience, observer),
        }
    }

    /// The manifest of the file set.
    pub(crate) async fn manifest(&self) -> Result<Manifest, O::Error> {
        let mut pauses = Pauses::new();
        loop {
            match self.try_manifest().await {
                Ok(manifest) => {
                    self.outage.end();
                    return Ok(manifest);
                }
                Err(failure) => self.wait_after(failure, &mut pauses).await?,
            }
        }
    }

    async fn try_manifest(&self) -> Result<Manifest, Failure<O::Error>> {
        let Reply { url, mut response } = self.origin.manifest(&self.set).await?;
        let mut bytes = BytesMut::new();
        while let Some(chunk) = next_chunk(&mut response).await? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > MAX_MANIFEST_BYTES {
                break;
            }
        }
        if ManifestHash::of(&bytes) != self.set {
            let what = "something other than the manifest";
            return Err(refused(Error::Unexpected { url, what }));
        }
        Manifest::parse(&bytes, &Limits::NONE).map_err(|error| refused(Error::from(error)))
    }

    /// Sends contents on in their order, until nobody takes them anymore.
    pub(crate) async fn contents(
        self: Arc<Self>,
        contents: Vec<Content>,
        arriving: mpsc::Sender<(Content, Bytes)>,
    ) -> Result<(), O::Error> {
        let start = |batch| tokio::spawn(Arc::clone(&self).batch(batch));
        let mut arrived = stream::iter(batches(contents)).map(start).buffered(CONCURRENT_REQUESTS);
        while let Some(batch) = arrived.next().await {
            let batch = batch.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
            for content in batch? {
                if arriving.send(content).await.is_err() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Downloads a batch. What has arrived is not asked for again.
    async fn batch(self: Arc<Self>, batch: Vec<Content>) -> Result<Vec<(Content, Bytes)>, O::Error> {
        let mut arrived = Vec::with_capacity(batch.len());
        let mut pauses = Pauses::new();
        while arrived.len() < batch.len() {
            let before = arrived.len();
            let requested = self.request(&batch, &mut arrived).await;
            if arrived.len() > before {
                pauses = Pauses::new();
            }
            if let Err(failure) = requested {
                self.wait_after(failure, &mut pauses).await?;
            }
        }
        Ok(arrived)
    }

    async fn request(&self, batch: &[Content], arrived: &mut Vec<(Content, Bytes)>) -> Result<(), Failure<O::Error>> {
        let Reply { url, mut response } = self.origin.contents(&self.set, &batch[arrived.len()..]).await?;
        let mut pack = PackReader::new();
        while let Some(chunk) = next_chunk(&mut response).await? {
            pack.push(&chunk);
            while let Some(bytes) = pack.take().map_err(|error| refused(Error::from(error)))? {
                let wanted = batch.get(arrived.len());
                // The writer of the files checks the hash.
                let Some(content) = wanted.filter(|content| content.length() as usize == bytes.len()) else {
                    let what = "something other than the contents";
                    return Err(refused(Error::Unexpected { url, what }));
                };
                arrived.push((*content, bytes));
                self.outage.end();
            }
        }
        if arrived.len() < batch.len() {
            return Err(Failure::Transient("the answer ended early".to_owned()));
        }
        Ok(())
    }

    async fn wait_after(&self, failure: Failure<O::Error>, pauses: &mut Pauses) -> Result<(), O::Error> {
        match failure {
            Failure::Final(error) => Err(error),
            Failure::Transient(why) => {
                self.outage.continue_after(why)?;
                pauses.pause().await;
                Ok(())
            }
        }
    }
}

async fn next_chunk<E>(response: &mut Response) -> Result<Option<Bytes>, Failure<E>> {
    match timeout(STALL_TIMEOUT, response.chunk()).await {
        Ok(chunk) => chunk.map_err(transient),
        Err(_) => Err(Failure::Transient("the answer stalled".to_owned())),
    }
}

fn refused<E: From<Error>>(error: Error) -> Failure<E> {
    Failure::Final(error.into())
}
