//! Checks the server's own permissions at startup, and again while some are missing, after a call was denied, and now and
//! then: watches and lists in a namespace that was deleted succeed, and are empty.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::kubernetes::{ApiClient, ConfigMap, ObjectMeta, ResourceAttributes};

/// The required permissions, as listed in docs/OPERATIONS.md: group, resource, subresource, verbs. `services` is not
/// among them: without it, nodes only lack host names.
const REQUIRED: &[(&str, &str, &str, &[&str])] = &[
    (
        "batch",
        "jobs",
        "",
        &["create", "get", "list", "watch", "patch", "delete"],
    ),
    ("", "pods", "", &["get", "list", "watch", "patch"]),
    ("", "pods", "log", &["get"]),
    ("", "events", "", &["get", "list", "watch"]),
    (
        "",
        "persistentvolumeclaims",
        "",
        &["create", "get", "list", "watch", "delete"],
    ),
    (
        "",
        "configmaps",
        "",
        &["create", "get", "list", "watch", "patch", "delete"],
    ),
];

/// How many access reviews are sent concurrently.
const CONCURRENT_REVIEWS: usize = 8;

/// How often the permissions are checked while some are missing or after a denial.
const INTERVAL: Duration = Duration::from_secs(10);

/// How often the namespace is looked up if nothing was denied.
const NAMESPACE_INTERVAL: Duration = Duration::from_secs(30);

/// The result of the last review.
#[derive(Debug, Default)]
pub(crate) struct Permissions(Mutex<Review>);

#[derive(Debug, Default)]
struct Review {
    missing: Vec<String>,
    has_no_namespace: bool,
}

impl Permissions {
    /// Fails if a permission or the namespace is missing.
    pub(crate) fn check(&self, namespace: &str) -> Result<(), Error> {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let namespace = namespace.to_owned();
        if last.has_no_namespace {
            return Err(Error::NamespaceNotFound { namespace });
        }
        let missing = last.missing.clone();
        missing
            .is_empty()
            .then_some(())
            .ok_or(Error::MissingPermissions { namespace, missing })
    }

    /// Asks Kubernetes which permissions the server has, and whether the namespace exists.
    pub(crate) async fn review(&self, client: &ApiClient) -> Result<(), Error> {
        let mut reviews = Vec::new();
        for (group, resource, subresource, verbs) in REQUIRED {
            reviews.extend(
                verbs
                    .iter()
                    .map(|verb| missing_permission(client, group, resource, subresource, verb)),
            );
        }
        let missing: Vec<Option<String>> = stream::iter(reviews).buffered(CONCURRENT_REVIEWS).try_collect().await?;
        let has_no_namespace = !namespace_exists(client).await?;
        let last = Review {
            missing: missing.into_iter().flatten().collect(),
            has_no_namespace,
        };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = last;
        Ok(())
    }
}

async fn missing_permission(
    client: &ApiClient,
    group: &str,
    resource: &str,
    subresource: &str,
    verb: &str,
) -> Result<Option<String>, Error> {
    let attributes = ResourceAttributes {
        group: Some(group.to_owned()),
        resource: Some(resource.to_owned()),
        subresource: Some(subresource.to_owned()).filter(|name| !name.is_empty()),
        verb: Some(verb.to_owned()),
        ..ResourceAttributes::default()
    };
    let path = match subresource {
        "" => resource.to_owned(),
        subresource => format!("{resource}/{subresource}"),
    };
    match client.is_allowed(attributes).await {
        Ok(true) => Ok(None),
        Ok(false) => Ok(Some(format!("`{verb}` on `{path}`"))),
        // Without permission to create access reviews, missing permissions show up as denied calls instead.
        Err(error) if error.is_forbidden() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether the namespace exists. A list in a nonexistent namespace is merely empty, so try a dry-run create.
async fn namespace_exists(client: &ApiClient) -> Result<bool, Error> {
    let probe = ConfigMap {
        metadata: ObjectMeta {
            name: Some("k8s-cli-namespace-probe".to_owned()),
            ..ObjectMeta::default()
        },
        ..ConfigMap::default()
    };
    match client.validate("look up the namespace", &probe).await {
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) if error.is_transient() => Err(error),
        // A policy may reject the object, but then the namespace exists.
        _ => Ok(true),
    }
}

/// Waits for a denied call. Returns whether there was one, or else whether the namespace is gone by now.
async fn is_denied_or_gone(client: &ApiClient) -> bool {
    match timeout(NAMESPACE_INTERVAL, client.wait_for_denial()).await {
        Ok(()) => true,
        Err(_) => matches!(namespace_exists(client).await, Ok(false)),
    }
}

/// Repeats the review while permissions are missing and after each denied call, until shutdown.
pub(crate) async fn monitor(permissions: Arc<Permissions>, client: ApiClient, stop: CancellationToken) {
    stop.run_until_cancelled(monitor_forever(&permissions, &client)).await;
}

async fn monitor_forever(permissions: &Permissions, client: &ApiClient) {
    let missing = || {
        permissions
            .check(client.namespace())
            .err()
            .map(|error| error.to_string())
    };
    loop {
        let before = missing();
        if before.is_none() && !is_denied_or_gone(client).await {
            continue;
        }
        if let Err(error) = permissions.review(client).await {
            tracing::debug!(%error, "failed to review the server's permissions");
        }
        match (&before, missing()) {
            (_, Some(missing)) if before.as_ref() != Some(&missing) => {
                tracing::error!(missing, "the server is not ready")
            }
            (Some(_), None) => tracing::info!("the server has all required permissions"),
            _ => {}
        }
        sleep(INTERVAL).await;
    }
}
