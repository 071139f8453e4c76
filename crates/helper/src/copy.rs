//! Copies a folder or a file of a bucket, or a file of a web server, to the node of a task.

mod address;
mod bucket;
mod client;
mod file;
mod items;
mod origin;

use std::fs;
use std::path::Path;

use futures::{StreamExt, TryStreamExt, stream};
use object_store::ObjectStoreExt;
use tokio::signal::unix::{SignalKind, signal};

use self::address::Address;
use self::bucket::Bucket;
use self::file::Copying;
use self::items::{Item, items};
use self::origin::Origin;
use crate::args::Copy;
use crate::error::Error;
use crate::outage::Pauses;

/// Why a request failed.
type Failure = crate::origin::Failure<Error>;

/// How many files are copied at once. Buckets answer slowly, and most files are small.
const CONCURRENT_FILES: usize = 16;

/// Copies what an address names.
pub(crate) fn copy(args: &Copy) -> Result<(), Error> {
    let address = Address::parse(&args.url)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(Error::io("start", "the event loop"))?;
    let copied = runtime.block_on(async {
        let mut terminations = signal(SignalKind::terminate()).map_err(Error::io("handle", "SIGTERM"))?;
        unless_terminated(terminations.recv(), copy_from(&address, args)).await
    });
    // What is still on its way is of no use.
    runtime.shutdown_background();
    copied
}

/// Copies, unless SIGTERM arrives first. Files that are not whole are then removed: the folder may be a volume, in which
/// nobody else would remove them.
async fn unless_terminated(
    termination: impl Future<Output = Option<()>>,
    copying: impl Future<Output = Result<(), Error>>,
) -> Result<(), Error> {
    tokio::select! {
        copied = copying => copied,
        Some(()) = termination => Err(Error::Terminated),
    }
}

async fn copy_from(address: &Address, args: &Copy) -> Result<(), Error> {
    let copying = Copying::new(args.patience);
    match address {
        Address::Web(url) => {
            let origin = Origin::Web {
                client: client::for_web()?,
                url: url.clone(),
            };
            copying.file(&origin, &args.into).await
        }
        Address::Bucket(bucket) => {
            let store = bucket.open().await?;
            copy_bucket(bucket, store, copying, &args.into).await
        }
    }
}

/// Copies the object of this name, or else the folder.
async fn copy_bucket(bucket: &Bucket, store: bucket::Store, copying: Copying, into: &Path) -> Result<(), Error> {
    let object = |key: &object_store::path::Path| Origin::Object {
        store: store.clone(),
        bucket: bucket.clone(),
        key: key.clone(),
    };
    if !bucket.is_folder && is_object(bucket, &store, &copying).await? {
        return copying.file(&object(&bucket.key), into).await;
    }
    let found = list(bucket, &store, &copying).await?;
    if found.is_empty() {
        return Err(Error::Nothing {
            url: bucket.to_string(),
        });
    }
    fs::create_dir_all(into).map_err(Error::io("make", into))?;
    copying.expect(found.iter().map(|item| item.size).sum());
    let copying = &copying;
    let copies = stream::iter(found).map(|item| {
        let origin = object(&item.key);
        async move { copying.item(&origin, &item, into).await }
    });
    copies.buffer_unordered(CONCURRENT_FILES).try_collect().await
}

/// Whether the bucket has an object of this name. Who may list it but not look at an object learns it from the list.
async fn is_object(bucket: &Bucket, store: &bucket::Store, copying: &Copying) -> Result<bool, Error> {
    let mut pauses = Pauses::new();
    loop {
        let failure = match store.head(&bucket.key).await {
            Ok(_) => return Ok(true),
            Err(error) => bucket.failure(error),
        };
        match failure {
            Failure::Final(Error::Nothing { .. } | Error::Denied { .. }) => return Ok(false),
            failure => copying.wait_after(failure, &mut pauses).await?,
        }
    }
}

/// What is in the folder.
async fn list(bucket: &Bucket, store: &bucket::Store, copying: &Copying) -> Result<Vec<Item>, Error> {
    let mut pauses = Pauses::new();
    loop {
        match store.list(Some(&bucket.key)).try_collect::<Vec<_>>().await {
            Ok(found) => {
                copying.arrived();
                return items(bucket, found);
            }
            Err(error) => copying.wait_after(bucket.failure(error), &mut pauses).await?,
        }
    }
}

impl Copying {
    /// Waits before another try, or fails.
    async fn wait_after(&self, failure: Failure, pauses: &mut Pauses) -> Result<(), Error> {
        match failure {
            Failure::Final(error) => Err(error),
            Failure::Transient(why) => {
                self.failed(why)?;
                pauses.pause().await;
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests;
