//! Changes several objects of one task concurrently.

use futures::{StreamExt, stream};
use serde_json::Value;

use crate::cache::{Cache, Job, Pod};
use crate::error::Error;
use crate::kubernetes::{self, ApiClient, NamespacedObject, ObjectRef};

/// How many objects of one task are changed concurrently.
pub(crate) const CONCURRENT_PATCHES: usize = 32;

/// A merge patch for one object, limited to one `resourceVersion` where it must not overwrite a concurrent change.
#[derive(Debug, Clone)]
pub(crate) struct ObjectPatch {
    pub object: ObjectRef,
    pub version: Option<String>,
    pub merge: Value,
}

impl ObjectPatch {
    /// A change that applies to any version of the object.
    pub(crate) fn of(object: ObjectRef, merge: Value) -> Self {
        let version = None;
        Self { object, version, merge }
    }
}

/// Changes pods. Continues after a failure, so that one pod cannot block the others, and returns the first error.
pub(crate) async fn patch_pods(
    client: &ApiClient,
    cache: &Cache,
    action: &'static str,
    changes: Vec<ObjectPatch>,
) -> Result<(), Error> {
    let (changed, result) = patch_all::<kubernetes::Pod>(client, action, changes).await;
    cache.apply_patched(
        Vec::new(),
        changed
            .into_iter()
            .filter_map(|pod| Pod::from_resource(pod).ok())
            .collect(),
    );
    result
}

/// Changes Jobs in the same way as [`patch_pods`].
pub(crate) async fn patch_jobs(
    client: &ApiClient,
    cache: &Cache,
    action: &'static str,
    changes: Vec<ObjectPatch>,
) -> Result<(), Error> {
    let (changed, result) = patch_all::<kubernetes::Job>(client, action, changes).await;
    cache.apply_patched(
        changed
            .into_iter()
            .filter_map(|job| Job::from_resource(job).ok())
            .collect(),
        Vec::new(),
    );
    result
}

/// The changed objects and the first error. Objects that no longer exist are skipped.
async fn patch_all<K: NamespacedObject>(
    client: &ApiClient,
    action: &'static str,
    changes: Vec<ObjectPatch>,
) -> (Vec<K>, Result<(), Error>) {
    let mut answers = stream::iter(changes)
        .map(|change| async move {
            let target = change.object.version(change.version.as_deref());
            client.merge_patch::<K>(action, target, change.merge).await
        })
        .buffer_unordered(CONCURRENT_PATCHES);
    let (mut changed, mut result) = (Vec::new(), Ok(()));
    while let Some(answer) = answers.next().await {
        match answer {
            Ok(object) => changed.extend(object),
            Err(error) if result.is_ok() => result = Err(error),
            Err(_) => {}
        }
    }
    (changed, result)
}
