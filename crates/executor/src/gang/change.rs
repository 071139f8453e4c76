//! Changing several objects of one task at once.

use futures::{StreamExt, stream};
use serde_json::Value;

use super::decide::Target;
use crate::cache::{Cache, Job, Pod};
use crate::error::Error;
use crate::kubernetes::{self, Calls, Resource};

/// How many objects of one task are changed at once.
pub const CONCURRENT_CHANGES: usize = 32;

/// A change of one object; of a version of it, where it must not overrule another change.
#[derive(Debug, Clone)]
pub struct Change {
    pub object: Target,
    pub version: Option<String>,
    pub merge: Value,
}

impl Change {
    /// A change of whatever the object has become.
    pub fn of(object: Target, merge: Value) -> Self {
        let version = None;
        Self { object, version, merge }
    }
}

/// Changes pods, as many as possible: one that cannot be changed does not keep the others waiting.
///
/// # Errors
/// The first one that could not be.
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

/// The same for Jobs.
///
/// # Errors
/// The first one that could not be.
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

/// What has become of them, and the first error. One that is gone needs no change.
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
