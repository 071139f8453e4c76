//! Single calls to the Kubernetes API, each with a time limit, a metric, and retries where they are safe.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use clock::Clock;
use jiff::Timestamp;
use kube::core::Status;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use super::{
    Api, Client, DeleteParams, ListParams, Namespace, NamespacedObject, Node, Patch, PatchParams, Pod, PostParams,
    Resource, ResourceAttributes, ResourceExt, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec, Target, capture,
};
use crate::error::Error;
use crate::labels;
use crate::tokens;

/// The time limit of a read. Kubernetes aims for 1 second in 99% of reads; this leaves room for an overloaded
/// kube-apiserver without hanging the caller.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// The time limit of a readiness check. It must stay below the 1 second after which a kubelet's probe of our server
/// times out.
const READY_TIMEOUT: Duration = Duration::from_millis(500);

/// The time limit of a write. The kube-apiserver first calls admission webhooks, each of which may take 10 seconds by
/// default and 30 at most; if one times out, the kube-apiserver's error names it
/// (<https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#timeouts>).
const WRITE_TIMEOUT: Duration = Duration::from_secs(35);

/// How many cluster nodes or pods are listed in one call. Each has some 10 KB, most of which is not kept.
const OBJECTS_PER_PAGE: u32 = 500;

/// The pauses before retries. Their sum is short enough for a user who waits for the result.
const RETRY_PAUSES: [Duration; 3] = [
    Duration::from_millis(100),
    Duration::from_millis(400),
    Duration::from_millis(1500),
];

/// After this time no retry starts, whatever `Retry-After` says.
const RETRY_LIMIT: Duration = Duration::from_secs(20);

/// Calls within one namespace.
#[derive(Clone)]
pub(crate) struct ApiClient {
    client: Client,
    namespace: String,
    clock: Clock,
    denials: Arc<Notify>,
}

/// The result of a delete.
#[derive(Debug)]
pub(crate) enum DeleteOutcome<K> {
    /// The object no longer exists.
    Deleted,
    /// The object exists until its finalizers are removed.
    Finalizing(K),
}

impl ApiClient {
    /// Calls within `namespace` through `client`.
    pub(crate) fn new(client: Client, namespace: String, clock: Clock) -> Self {
        Self {
            client,
            namespace,
            clock,
            denials: Arc::default(),
        }
    }

    /// Waits until Kubernetes denies a call, or reports that the namespace is gone.
    pub(crate) async fn wait_for_denial(&self) {
        self.denials.notified().await;
    }

    /// Wakes [`Self::wait_for_denial`] for failures that suggest a permission or the namespace was removed.
    pub(crate) fn report_denial(&self, error: &kube::Error) {
        if let kube::Error::Api(status) = error
            && (status.code == 403 || is_about_namespace(status))
        {
            self.denials.notify_one();
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Typed access without a time limit, for watches and log streams, which have their own.
    pub(crate) fn namespaced<K: NamespacedObject>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Reads the version of the kube-apiserver, e.g., `v1.37.2`, within `limit`. This is the cheapest proof that it
    /// answers.
    pub(crate) async fn server_version(&self, limit: Duration) -> Result<String, Error> {
        let call = call_once("reach the Kubernetes API", limit, self.client.apiserver_version()).await;
        Ok(call.result?.git_version)
    }

    /// Fails if the kube-apiserver reports that it is not ready, e.g., because it cannot write to its store. A
    /// kube-apiserver that is slow, or that denies the check, passes: the cache notices on its own if updates stop
    /// arriving.
    pub(crate) async fn check_ready(&self) -> Result<(), Error> {
        let request = http::Request::get("/readyz").body(Vec::new());
        let Ok(request) = request else { return Ok(()) };
        match timeout(READY_TIMEOUT, self.client.request_text(request)).await {
            Ok(Err(kube::Error::Api(status))) if status.code >= 500 => Err(Error::Kubernetes {
                action: "use the Kubernetes API",
                source: Box::new(kube::Error::Api(status)),
            }),
            _ => Ok(()),
        }
    }

    /// Lists the cluster nodes, in pages. They are cluster-scoped, so the server may lack permission.
    pub(crate) async fn nodes(&self) -> Result<Vec<Node>, Error> {
        let api: Api<Node> = Api::all(self.client.clone());
        let mut params = ListParams::default().limit(OBJECTS_PER_PAGE);
        let mut nodes = Vec::new();
        loop {
            let call = self
                .with_retries("list nodes", READ_TIMEOUT, || api.list(&params))
                .await;
            let page = call.result?;
            nodes.extend(page.items);
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => return Ok(nodes),
            }
        }
    }

    /// What `pick` finds in the unfinished pods of all namespaces, or only of this one without permission for the others.
    /// Lists them in pages: all pods of a large cluster would take hundreds of megabytes.
    pub(crate) async fn select_pods<T>(&self, pick: impl Fn(&Pod) -> Option<T>) -> Result<Vec<T>, Error> {
        'scopes: for api in [Api::all(self.client.clone()), self.namespaced::<Pod>()] {
            let mut params = ListParams::default()
                .fields("status.phase!=Succeeded,status.phase!=Failed")
                .limit(OBJECTS_PER_PAGE);
            let mut picked = Vec::new();
            loop {
                let call = self.with_retries("list pods", READ_TIMEOUT, || api.list(&params)).await;
                let page = match call.result {
                    Err(error) if error.is_forbidden() => continue 'scopes,
                    page => page?,
                };
                picked.extend(page.items.iter().filter_map(&pick));
                match page.metadata.continue_.filter(|token| !token.is_empty()) {
                    Some(token) => params = params.continue_token(&token),
                    None => return Ok(picked),
                }
            }
        }
        Ok(Vec::new())
    }

    /// Validates an object with a dry-run create, including quotas and policies.
    pub(crate) async fn validate<K: NamespacedObject + Serialize>(
        &self,
        action: &'static str,
        object: &K,
    ) -> Result<(), Error> {
        let api = self.namespaced::<K>();
        let params = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        self.with_retries(action, WRITE_TIMEOUT, || api.create(&params, object))
            .await
            .result
            .map(drop)
    }

    /// Whether the server has a permission in the namespace.
    pub(crate) async fn is_allowed(&self, attributes: ResourceAttributes) -> Result<bool, Error> {
        let review = SelfSubjectAccessReview {
            spec: SelfSubjectAccessReviewSpec {
                resource_attributes: Some(ResourceAttributes {
                    namespace: Some(self.namespace.clone()),
                    ..attributes
                }),
                ..SelfSubjectAccessReviewSpec::default()
            },
            ..SelfSubjectAccessReview::default()
        };
        let api: Api<SelfSubjectAccessReview> = Api::all(self.client.clone());
        let params = PostParams::default();
        let call = self
            .with_retries("check permissions", READ_TIMEOUT, || api.create(&params, &review))
            .await;
        Ok(call.result?.status.is_some_and(|status| status.allowed))
    }

    /// The labels of the namespace, or `None` without permission to read it.
    pub(crate) async fn namespace_labels(&self) -> Result<Option<BTreeMap<String, String>>, Error> {
        let api: Api<Namespace> = Api::all(self.client.clone());
        match self
            .with_retries("read the namespace", READ_TIMEOUT, || api.get(&self.namespace))
            .await
            .result
        {
            Ok(namespace) => Ok(Some(namespace.metadata.labels.unwrap_or_default())),
            Err(error) if error.is_forbidden() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Creates an object whose name the caller has chosen. The call may be retried after a lost response, because the
    /// annotations of an existing object show whether it is ours. Adds the warnings of Kubernetes to `warnings`. Returns
    /// the object, which another try of the same submission may have created, or `None` if an unrelated one has its
    /// name.
    ///
    /// # Errors
    /// After a rejection the object does not exist; after a transient error it may.
    pub(crate) async fn create<K: NamespacedObject + Serialize>(
        &self,
        action: &'static str,
        object: &K,
        warnings: &mut Vec<String>,
    ) -> Result<Option<K>, Error> {
        let api = self.namespaced::<K>();
        let params = PostParams::default();
        let call = self
            .with_retries(action, WRITE_TIMEOUT, || api.create(&params, object))
            .await;
        warnings.extend(call.warnings);
        match call.result {
            Ok(created) => Ok(Some(created)),
            Err(error) if error.is_already_exists() => {
                let Some(existing) = self.get::<K>(action, &object.name_any()).await? else {
                    return Err(error);
                };
                Ok(is_same_submission(&existing, object).then_some(existing))
            }
            Err(error) => Err(error),
        }
    }

    /// Creates an object without reading it. If a response was lost, the repeated call finds that it already exists.
    pub(crate) async fn create_only<K: NamespacedObject + Serialize>(
        &self,
        action: &'static str,
        object: &K,
    ) -> Result<(), Error> {
        let api = self.namespaced::<K>();
        let params = PostParams::default();
        let call = self
            .with_retries(action, WRITE_TIMEOUT, || api.create(&params, object))
            .await;
        call.result.map(drop)
    }

    /// Reads one object, or returns `None` if it is not found.
    pub(crate) async fn get<K: NamespacedObject>(&self, action: &'static str, name: &str) -> Result<Option<K>, Error> {
        let api = self.namespaced::<K>();
        none_if_not_found(self.with_retries(action, READ_TIMEOUT, || api.get(name)).await.result)
    }

    /// Lists the objects with these labels.
    pub(crate) async fn list<K: NamespacedObject>(&self, action: &'static str, labels: &str) -> Result<Vec<K>, Error> {
        let api = self.namespaced::<K>();
        let params = ListParams::default().labels(labels);
        Ok(self
            .with_retries(action, READ_TIMEOUT, || api.list(&params))
            .await
            .result?
            .items)
    }

    /// Applies the merge patch `change` to an object, or returns `None` if it is not found.
    ///
    /// # Errors
    /// A conflict if the version is outdated. A try whose response was lost may have applied the patch, and its retry
    /// then ends in a conflict as well.
    pub(crate) async fn merge_patch<K: NamespacedObject>(
        &self,
        action: &'static str,
        target: Target<'_>,
        mut change: Value,
    ) -> Result<Option<K>, Error> {
        // The kube-apiserver rejects a patch that contains another uid or version than the object has.
        change["metadata"]["uid"] = target.uid.into();
        if let Some(version) = target.version {
            change["metadata"]["resourceVersion"] = version.into();
        }
        let api = self.namespaced::<K>();
        let (params, patch) = (PatchParams::default(), Patch::Merge(change));
        none_if_not_found(
            self.with_retries(action, WRITE_TIMEOUT, || api.patch(target.name, &params, &patch))
                .await
                .result,
        )
    }

    /// Deletes an object, and in the background the objects it owns. Succeeds if the object is not found.
    ///
    /// # Errors
    /// A conflict if a version is given and outdated.
    pub(crate) async fn delete<K: NamespacedObject>(
        &self,
        action: &'static str,
        target: Target<'_>,
    ) -> Result<DeleteOutcome<K>, Error> {
        let api = self.namespaced::<K>();
        let params = DeleteParams::background().preconditions(kube::api::Preconditions {
            uid: Some(target.uid.to_owned()),
            resource_version: target.version.map(str::to_owned),
        });
        match none_if_not_found(
            self.with_retries(action, WRITE_TIMEOUT, || api.delete(target.name, &params))
                .await
                .result,
        ) {
            Ok(answer) => {
                let left = answer.and_then(|answer| answer.left());
                let held = left.filter(|object| !object.finalizers().is_empty());
                Ok(held.map_or(DeleteOutcome::Deleted, DeleteOutcome::Finalizing))
            }
            // The name may belong to a new object by now, and then the one to delete is gone.
            Err(error) if target.version.is_none() && error.is_conflict() => {
                let object = self.get::<K>(action, target.name).await?;
                let is_still_there = object.is_some_and(|object| object.meta().uid.as_deref() == Some(target.uid));
                if is_still_there {
                    Err(error)
                } else {
                    Ok(DeleteOutcome::Deleted)
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Repeats a call after transient errors, within the retry limits.
    async fn with_retries<T, F>(
        &self,
        action: &'static str,
        limit: Duration,
        mut call: impl FnMut() -> F,
    ) -> CallResult<T>
    where
        F: Future<Output = Result<T, kube::Error>>,
    {
        let start = Instant::now();
        let mut pauses = RETRY_PAUSES.into_iter();
        loop {
            let outcome = call_once(action, limit, call()).await;
            if let Err(Error::Kubernetes { source, .. }) = &outcome.result {
                self.report_denial(source);
            }
            let pause = pauses
                .next()
                .map(|pause| outcome.retry_after.unwrap_or(pause).max(pause));
            match (&outcome.result, pause) {
                (Err(error), Some(pause))
                    if error.is_transient() && start.elapsed().saturating_add(pause) < RETRY_LIMIT =>
                {
                    tracing::debug!(action, %error, "retrying a call");
                    sleep(pause).await;
                }
                _ => return outcome,
            }
        }
    }
}

/// Whether it is the namespace that was not found.
fn is_about_namespace(status: &Status) -> bool {
    let details = status.details.as_ref();
    status.code == 404 && details.is_some_and(|details| details.kind == "namespaces")
}

/// Whether an existing object was created for the submission of `wanted`, which has its name. The token alone is not
/// enough: the objects of one task also share their owner.
fn is_same_submission<K: Resource>(existing: &K, wanted: &K) -> bool {
    let same = |of: fn(&K) -> Option<&str>| of(existing) == of(wanted);
    same(|object| tokens::submission(object.annotations()))
        && same(|object| object.labels().get(labels::USER).map(String::as_str))
        && same(|object| object.owner_references().first().map(|owner| owner.uid.as_str()))
}

/// The result of a call, with what its response headers contain.
struct CallResult<T> {
    result: Result<T, Error>,
    /// The warnings of Kubernetes.
    warnings: Vec<String>,
    /// The `Retry-After` of the kube-apiserver.
    retry_after: Option<Duration>,
}

/// Runs one call with a time limit, and records its duration.
async fn call_once<T>(
    action: &'static str,
    limit: Duration,
    call: impl Future<Output = Result<T, kube::Error>>,
) -> CallResult<T> {
    let start = Instant::now();
    let (result, headers) = capture::capture_headers(timeout(limit, call)).await;
    let result = match result {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(source)) => Err(Error::Kubernetes {
            action,
            source: Box::new(source),
        }),
        Err(_) => Err(Error::Timeout { action, limit }),
    };
    metrics::histogram!("k8s_cli_kubernetes_call_seconds", "outcome" => if result.is_ok() { "ok" } else { "error" })
        .record(start.elapsed().as_secs_f64());
    CallResult {
        result,
        warnings: headers.warnings,
        retry_after: headers.retry_after,
    }
}

fn none_if_not_found<T>(result: Result<T, Error>) -> Result<Option<T>, Error> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
