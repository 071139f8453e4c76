//! The object store, with a time limit on each call.

use std::future::Future;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::error::Error;
use crate::leftovers;
use crate::location::Location;
use crate::space::{Limits, Space};

/// How long a call may take. The client of a bucket retries within it.
const TIMEOUT: Duration = Duration::from_secs(60);

/// How long a list may take; it may have hundreds of pages.
const LIST_TIMEOUT: Duration = Duration::from_secs(600);

/// How many calls there are at once. On a mount that hangs, each of them keeps a thread.
const MAX_CALLS: usize = 64;

/// The largest object that is read. Ours are smaller; others' must not fill the memory.
const MAX_OBJECT: u64 = 64 << 20;

/// The object store.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    objects: Arc<dyn ObjectStore>,
    pub space: Arc<Space>,
    /// The folder, if it is one.
    folder: Option<Arc<PathBuf>>,
    /// Held by each call until it has really ended.
    calls: Arc<Semaphore>,
}

impl Store {
    pub(crate) fn open(location: &Location, limits: Limits) -> Result<Self, Error> {
        Ok(Self {
            objects: location.open()?,
            calls: Arc::new(Semaphore::new(MAX_CALLS)),
            space: Arc::new(Space::new(limits, location.path().cloned())),
            folder: location.path().cloned().map(Arc::new),
        })
    }

    /// Writes an object if there is none, and returns whether it did.
    pub(crate) async fn put_new(&self, path: &Path, content: PutPayload) -> Result<bool, Error> {
        let size = content.content_length();
        let options = PutOptions::from(PutMode::Create);
        let (objects, at) = (Arc::clone(&self.objects), path.clone());
        let put = async move { objects.put_opts(&at, content, options).await };
        let put = self.limited("write", path, TIMEOUT, put).await;
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

    /// Writes an object, or overwrites it.
    pub(crate) async fn put(&self, path: &Path, content: PutPayload) -> Result<(), Error> {
        let (objects, at) = (Arc::clone(&self.objects), path.clone());
        let put = async move { objects.put(&at, content).await };
        self.limited("write", path, TIMEOUT, put).await.map(drop)
    }

    /// Reads an object, or returns `None` if there is none.
    pub(crate) async fn get(&self, path: &Path) -> Result<Option<Bytes>, Error> {
        let (objects, at) = (Arc::clone(&self.objects), path.clone());
        let get = async move {
            let found = objects.get(&at).await?;
            if found.meta.size > MAX_OBJECT {
                return Ok(None);
            }
            found.bytes().await.map(Some)
        };
        match if_found(self.limited("read", path, TIMEOUT, get).await)? {
            Some(None) => Err(Error::Invalid {
                path: path.to_string(),
                reason: "it is too large".to_owned(),
            }),
            found => Ok(found.flatten()),
        }
    }

    /// When an object was written, or `None` if there is none.
    pub(crate) async fn written_at(&self, path: &Path) -> Result<Option<Timestamp>, Error> {
        Ok(self.head(path).await?.map(|meta| written_at(&meta)))
    }

    /// What is known of an object, or `None` if there is none.
    pub(crate) async fn head(&self, path: &Path) -> Result<Option<ObjectMeta>, Error> {
        let (objects, at) = (Arc::clone(&self.objects), path.clone());
        let head = async move { objects.head(&at).await };
        if_found(self.limited("read", path, TIMEOUT, head).await)
    }

    /// Reads the first bytes of an object.
    pub(crate) async fn get_start(&self, path: &Path, range: Range<u64>) -> Result<Option<Bytes>, Error> {
        let (objects, at) = (Arc::clone(&self.objects), path.clone());
        let get = async move {
            match objects.get_range(&at, range).await {
                Err(error) if !matches!(error, object_store::Error::NotFound { .. }) => {
                    // An empty object, e.g., after a power cut, has no range.
                    let is_empty = objects.head(&at).await.is_ok_and(|meta| meta.size == 0);
                    is_empty.then(Bytes::new).ok_or(error)
                }
                read => read,
            }
        };
        if_found(self.limited("read", path, TIMEOUT, get).await)
    }

    /// All objects under a prefix, sorted by path.
    pub(crate) async fn list(&self, prefix: &Path) -> Result<Vec<ObjectMeta>, Error> {
        let list = self.objects.list(Some(prefix)).try_collect::<Vec<_>>();
        let mut objects = self.limited("list", prefix, LIST_TIMEOUT, list).await?;
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
        match timeout(LIST_TIMEOUT, visiting).await {
            Ok(visited) => visited.map_err(|source| failed("list", prefix, source)),
            Err(_) => Err(timed_out("list", prefix, LIST_TIMEOUT)),
        }
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
        let objects = Arc::clone(&self.objects);
        let delete = async move {
            let mut deleted = objects.delete_stream(paths);
            while let Some(path) = deleted.next().await {
                match path {
                    Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        };
        self.limited("delete", what, LIST_TIMEOUT, delete).await
    }

    /// Deletes what killed servers have left below a prefix, of objects that are ours by their path. Returns how many files.
    pub(crate) async fn delete_leftovers(&self, prefix: &'static str, is_ours: fn(&Path) -> bool) -> usize {
        let Some(folder) = self.folder.as_ref().map(Arc::clone) else {
            return 0;
        };
        let deleting = move || {
            let is_ours = |object: &str| is_ours(&Path::from(format!("{prefix}/{object}")));
            leftovers::delete_below(&folder.join(prefix), SystemTime::now(), is_ours)
        };
        // On a mount that hangs, this waits with the one thread that hangs.
        match tokio::task::spawn_blocking(deleting).await {
            Ok(Ok(count)) => count,
            Ok(Err(error)) => {
                tracing::warn!(%error, prefix, "cannot look for incomplete files in the archive");
                0
            }
            // The runtime is shutting down.
            Err(_) => 0,
        }
    }

    /// Waits for a call, but not forever. One that does not end goes on by itself, and counts as one of the calls.
    async fn limited<T: Send + 'static>(
        &self,
        action: &'static str,
        path: &Path,
        limit: Duration,
        call: impl Future<Output = Result<T, object_store::Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let calls = Arc::clone(&self.calls);
        let calling = async move {
            // The semaphore is never closed.
            let permit = calls.acquire_owned().await.ok();
            let called = tokio::spawn(async move {
                let called = call.await;
                drop(permit);
                called
            });
            called.await
        };
        match timeout(limit, calling).await {
            Ok(Ok(Ok(value))) => Ok(value),
            Ok(Ok(Err(source))) => Err(failed(action, path, source)),
            // The call panicked, or the runtime is shutting down.
            Ok(Err(_)) | Err(_) => Err(timed_out(action, path, limit)),
        }
    }
}

/// When an object was written.
pub(crate) fn written_at(object: &ObjectMeta) -> Timestamp {
    Timestamp::from_millisecond(object.last_modified.timestamp_millis()).unwrap_or(Timestamp::MAX)
}

fn failed(action: &'static str, path: &Path, source: object_store::Error) -> Error {
    let path = path.to_string();
    Error::Store { action, path, source }
}

fn timed_out(action: &'static str, path: &Path, limit: Duration) -> Error {
    let path = path.to_string();
    Error::Timeout { action, path, limit }
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
