//! Changes several objects of one task concurrently.

use futures::{StreamExt, stream};
use serde_json::Value;

use super::decide::Target;
use crate::cache::{Cache, Job, Pod};
use crate::error::Error;
use crate::kubernetes::{self, Calls, Resource};

/// How many objects of one task are changed concurrently.
pub const CONCURRENT_CHANGES: usize = 32;

/// A merge patch for one object, limited to one `resourceVersion` where it must not overwrite a concurrent change.
#[derive(Debug, Clone)]
pub struct Change {
    pub object: Target,
    pub version: Option<String>,
    pub merge: Value,
}

impl Change {
    /// A change that applies to any version of the object.
    pub fn of(object: Target, merge: Value) -> Self {
        let version = None;
        Self { object, version, merge }
    }
}

/// Changes pods. Continues after a failure, so that one pod cannot block the others, and returns the first error.
pub async fn change_pods(
    calls: &Calls,
    cache: &Cache,
    action: &'static str,
    changes: Vec<Change>,
) -> Result<(), Error> {
    let (changed, result) = merge_all::<kubernetes::Pod>(calls, action, changes).await;
    cache.changed(
        Vec::new(),
        changed
            .into_iter()
            .filter_map(|pod| Pod::from_resource(pod).ok())
            .collect(),
    );
    result
}

/// Changes Jobs in the same way as [`change_pods`].
pub async fn change_jobs(
    calls: &Calls,
    cache: &Cache,
    action: &'static str,
    changes: Vec<Change>,
) -> Result<(), Error> {
    let (changed, result) = merge_all::<kubernetes::Job>(calls, action, changes).await;
    cache.changed(
        changed
            .into_iter()
            .filter_map(|job| Job::from_resource(job).ok())
            .collect(),
        Vec::new(),
    );
    result
}

/// The changed objects and the first error. Objects that no longer exist are skipped.
async fn merge_all<K>(calls: &Calls, action: &'static str, changes: Vec<Change>) -> (Vec<K>, Result<(), Error>)
where
    K: Resource<Scope = kube::core::NamespaceResourceScope> + Clone + serde::de::DeserializeOwned + std::fmt::Debug,
    K::DynamicType: Default,
{
    let mut answers = stream::iter(changes)
        .map(|change| async move {
            let (name, uid) = &change.object;
            let version = change.version.as_deref();
            calls
                .merge::<K>(action, kubernetes::Target { name, uid, version }, change.merge)
                .await
        })
        .buffer_unordered(CONCURRENT_CHANGES);
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
