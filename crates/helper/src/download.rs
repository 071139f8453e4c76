//! Downloads a file set, several requests at a time, and resumes what breaks off.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use files::{Content, Limits, Manifest, ManifestHash, PackReader};
use futures::{StreamExt, stream};
use tokio::sync::mpsc;

use crate::batches::batches;
use crate::error::Error;
use crate::outage::{Outage, Pauses};
use crate::source::{Failure, Source, transient};

/// How many requests are on their way at once: enough to fill a long line, and about 32 MiB in memory.
const CONCURRENT_REQUESTS: usize = 4;

/// Contents in the order of the files.
pub(crate) type Arriving = mpsc::Receiver<(Content, Bytes)>;

/// The download of a file set.
pub(crate) struct Download {
    source: Source,
    set: ManifestHash,
    outage: Outage,
}

impl Download {
    pub(crate) fn new(source: Source, set: ManifestHash, patience: Duration) -> Self {
        Self {
            source,
            set,
            outage: Outage::new(patience),
        }
    }

    /// The manifest of the file set.
    pub(crate) async fn manifest(&self) -> Result<Manifest, Error> {
        let mut pauses = Pauses::new();
        loop {
            match self.source.manifest(&self.set).await {
                Ok(bytes) => {
                    self.outage.end();
                    return Ok(Manifest::parse(&bytes, &Limits::NONE)?);
                }
                Err(failure) => self.wait_after(failure, &mut pauses).await?,
            }
        }
    }

    /// Sends contents on in their order, until nobody takes them anymore.
    pub(crate) async fn contents(
        self: Arc<Self>,
        contents: Vec<Content>,
        arriving: mpsc::Sender<(Content, Bytes)>,
    ) -> Result<(), Error> {
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
    async fn batch(self: Arc<Self>, batch: Vec<Content>) -> Result<Vec<(Content, Bytes)>, Error> {
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

    async fn request(&self, batch: &[Content], arrived: &mut Vec<(Content, Bytes)>) -> Result<(), Failure> {
        let (mut response, url) = self.source.contents(&self.set, &batch[arrived.len()..]).await?;
        let mut pack = PackReader::new();
        while let Some(chunk) = response.chunk().await.map_err(transient)? {
            pack.push(&chunk);
            while let Some(bytes) = pack.take().map_err(|error| Failure::Final(error.into()))? {
                let wanted = batch.get(arrived.len());
                // Whoever writes the files checks the hash.
                let Some(content) = wanted.filter(|content| content.length() as usize == bytes.len()) else {
                    let what = "something else than the contents";
                    return Err(Failure::Final(Error::Unexpected { url, what }));
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

    async fn wait_after(&self, failure: Failure, pauses: &mut Pauses) -> Result<(), Error> {
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
