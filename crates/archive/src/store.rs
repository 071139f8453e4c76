//! The object store, with a time limit on each call.

use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use tokio::time::timeout;

use crate::error::Error;
use crate::location::Location;
use crate::space::{Limits, Space};

/// How long a call may take. The client of a bucket retries within it.
const TIMEOUT: Duration = Duration::from_secs(60);

/// How long a list may take; it may have hundreds of pages.
const LIST_TIMEOUT: Duration = Duration::from_secs(600);

/// The object store.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    objects: Arc<dyn ObjectStore>,
    pub space: Arc<Space>,
}

impl Store {
    pub(crate) fn open(location: &Location, limits: Limits) -> Result<Self, Error> {
        Ok(Self {
            objects: location.open()?,
            space: Arc::new(Space::new(limits, location.path().cloned())),
        })
    }

    /// Writes an object if there is none, and returns whether it did.
    pub(crate) async fn put_new(&self, path: &Path, content: PutPayload) -> Result<bool, Error> {
        let size = content.content_length();
        let options = PutOptions::from(PutMode::Create);
        let put = limited("write", path, TIMEOUT, self.objects.put_opts(path, content, options)).await;
        match put {
            Ok(_) => {
                metrics::counter!("k8s_cli_archive_written_bytes_total").increment(size as u64);
                Ok(true)
            }
            Err(Error::Store {
                source: object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. },
                ..
            }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Reads an object, or returns `None` if there is none.
    pub(crate) async fn get(&self, path: &Path) -> Result<Option<Bytes>, Error> {
        let get = async { self.objects.get(path).await?.bytes().await };
        if_found(limited("read", path, TIMEOUT, get).await)
    }

    /// Reads the first bytes of an object.
    pub(crate) async fn get_start(&self, path: &Path, range: Range<u64>) -> Result<Option<Bytes>, Error> {
        if_found(limited("read", path, TIMEOUT, self.objects.get_range(path, range)).await)
    }

    /// All objects under a prefix, sorted by path.
    pub(crate) async fn list(&self, prefix: &Path) -> Result<Vec<ObjectMeta>, Error> {
        let list = self.objects.list(Some(prefix)).try_collect::<Vec<_>>();
        let mut objects = limited("list", prefix, LIST_TIMEOUT, list).await?;
        objects.sort_unstable_by(|left, right| left.location.cmp(&right.location));
        Ok(objects)
    }

    /// Calls `visit` with each object under a prefix, in any order.
    pub(crate) async fn visit(&self, prefix: &Path, mut visit: impl FnMut(&ObjectMeta)) -> Result<(), Error> {
        let mut list = self.objects.list(Some(prefix));
        let visiting = async {
            while let Some(object) = list.try_next().await? {
                visit(&object);
            }
            Ok(())
        };
        limited("list", prefix, LIST_TIMEOUT, visiting).await
    }

    /// Deletes all objects under a prefix.
    pub(crate) async fn delete_all(&self, prefix: &Path) -> Result<(), Error> {
        let objects = self.list(prefix).await?;
        self.delete(prefix, objects.into_iter().map(|object| object.location).collect())
            .await
    }

    /// Deletes objects; `what` names them in errors.
    pub(crate) async fn delete(&self, what: &Path, paths: Vec<Path>) -> Result<(), Error> {
        let paths = futures::stream::iter(paths.into_iter().map(Ok)).boxed();
        let delete = async {
            let mut deleted = self.objects.delete_stream(paths);
            while let Some(path) = deleted.next().await {
                match path {
                    Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        };
        limited("delete", what, LIST_TIMEOUT, delete).await
    }
}

async fn limited<T>(
    action: &'static str,
    path: &Path,
    limit: Duration,
    call: impl Future<Output = Result<T, object_store::Error>>,
) -> Result<T, Error> {
    match timeout(limit, call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(source)) => Err(Error::Store {
            action,
            path: path.to_string(),
            source,
        }),
        Err(_) => Err(Error::Timeout {
            action,
            path: path.to_string(),
            limit,
        }),
    }
}

fn if_found<T>(read: Result<T, Error>) -> Result<Option<T>, Error> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(Error::Store {
            source: object_store::Error::NotFound { .. },
            ..
        }) => Ok(None),
        Err(error) => Err(error),
    }
}
