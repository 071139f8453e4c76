//! Which files a token gives access to, and which files tasks still need.

use std::collections::BTreeMap;

use archive::FilesInUse;
use files::ManifestHash;
use serde_json::json;
use task::{Id, UserName};

use super::token::SentToken;
use crate::cache::{Cache, OwnerFiles, TaskOwner};
use crate::error::Error;
use crate::kubernetes::{ApiClient, ConfigMap};
use crate::labels;
use crate::manifest::Submission;
use crate::record_key::record_key;

/// The files that a token gives access to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileAccess {
    /// Whose files they are.
    pub user: UserName,
    /// The file sets.
    pub sets: Vec<ManifestHash>,
    /// The task whose token it is.
    pub task: Id,
}

/// What a token is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A node fetches its files.
    Fetch,
    /// The first node sends its outputs, perhaps after the task has failed because of another node.
    Keep {
        /// The attempt that the node belongs to, if it says so. A node that Kubernetes does not reach may still run when a
        /// later attempt has begun.
        attempt: Option<u32>,
    },
}

/// What a token gives access to, or `None` if it is wrong, or its task has ended or does not exist.
///
/// # Errors
/// A failure of Kubernetes.
pub(crate) async fn find_access(
    client: &ApiClient,
    cache: &Cache,
    token: &str,
    purpose: Purpose,
) -> Result<Option<FileAccess>, Error> {
    let Some(sent) = SentToken::parse(token) else {
        return Ok(None);
    };
    let known = cache.files_of(sent.id.as_str());
    if let Some((files, end)) = known.iter().find(|(files, _)| files.has_token(&sent.hash)) {
        let is_over = match purpose {
            Purpose::Fetch => end.has_ended,
            Purpose::Keep { attempt } => end.have_nodes_ended || attempt.is_some_and(|sent| sent < end.attempt),
        };
        return Ok(if is_over { None } else { access(files, sent.id) });
    }
    // Pods start before all Jobs of a task exist, and a watch may be late.
    let selector = format!("{},{}={}", labels::TASK_SELECTOR, labels::TASK_ID, sent.id);
    let owners = client
        .list::<ConfigMap>("look up the task of a token", &selector)
        .await?;
    let mut owners = owners
        .iter()
        .filter_map(|owner| TaskOwner::from_metadata(&owner.metadata).ok());
    let has_token = |owner: &TaskOwner| owner.files.as_ref().is_some_and(|files| files.has_token(&sent.hash));
    let owner = owners.find(|owner| has_token(owner) && !owner.terminating && !cache.has_ended(&owner.key));
    Ok(owner.and_then(|owner| access(owner.files.as_deref()?, sent.id)))
}

fn access(files: &OwnerFiles, task: Id) -> Option<FileAccess> {
    Some(FileAccess {
        user: UserName::parse(&files.username).ok()?,
        sets: files.sets.clone(),
        task,
    })
}

/// The file sets that nodes may still fetch, each with its user, and the tasks that are there.
pub(crate) fn in_use(cache: &Cache) -> FilesInUse {
    let files = cache.select(|entry| {
        let owners = entry.task.owners().iter().filter(|_| !entry.task.has_ended());
        owners.filter_map(|owner| owner.files.clone()).collect::<Vec<_>>()
    });
    let sets = |files: &OwnerFiles| {
        let named = |set: &ManifestHash| (files.username.clone(), *set);
        files.sets.iter().map(named).collect::<Vec<_>>()
    };
    FilesInUse {
        sets: files.iter().flat_map(|files| sets(files)).collect(),
        tasks: cache.tasks(None).iter().map(|(_, task)| record_key(task)).collect(),
    }
}

/// Makes the token of this try known, if another try with the same `Idempotency-Key` has created the owner. The Jobs may
/// be of either try.
///
/// # Errors
/// A failure of Kubernetes.
pub(crate) async fn share_token(client: &ApiClient, submission: &Submission, owner: &TaskOwner) -> Result<(), Error> {
    let Some(fetched) = submission.files.fetched() else {
        return Ok(());
    };
    let hash = fetched.secret.hash();
    if owner.files.as_ref().is_some_and(|files| files.has_token(&hash)) {
        return Ok(());
    }
    let annotations = fetched.annotations(&submission.definition, &submission.try_token);
    let annotations = BTreeMap::from(annotations);
    let change = json!({"metadata": {"annotations": annotations}});
    client
        .merge_patch::<ConfigMap>("share the files of the task", owner.object_ref().any_version(), change)
        .await
        // If the owner is gone, the commit finds out.
        .map(drop)
}
