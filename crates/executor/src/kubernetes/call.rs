//! Single calls to the Kubernetes API: each ends in time, is measured, and is repeated only where that is safe.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use clock::Clock;
use jiff::Timestamp;
use kube::core::Status;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use super::{
    Api, Client, DeleteParams, ListParams, Namespace, Node, Patch, PatchParams, PostParams, Resource,
    ResourceAttributes, ResourceExt, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec, answer,
};
use crate::error::Error;
use crate::labels;

/// How long a call that reads may take. Kubernetes' own objective for 99 of 100 is 1 s; an overloaded API server is given more,
/// and a caller is not left waiting for ever.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the API server may take to say that it is ready: less than the second that a kubelet gives a probe of ours.
const READY_TIMEOUT: Duration = Duration::from_millis(500);

/// How long a call that changes something may take. The API server asks admission webhooks first, each of which may take 10 s by
/// default and 30 s at most; it then says which one did not answer
/// (<https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#timeouts>).
const WRITE_TIMEOUT: Duration = Duration::from_secs(35);

/// The pauses before a call is tried again. Together they are shorter than a person's patience.
const RETRY_PAUSES: [Duration; 3] = [
    Duration::from_millis(100),
    Duration::from_millis(400),
    Duration::from_millis(1500),
];

/// After this time no other try is begun, however long the API server asks us to wait.
const RETRY_LIMIT: Duration = Duration::from_secs(20);

/// Calls to one namespace.
#[derive(Clone)]
pub struct Calls {
    client: Client,
    namespace: String,
    clock: Clock,
    refusals: Arc<Notify>,
}

/// What a create came to.
#[derive(Debug)]
pub enum Created<K> {
    /// This call, or an earlier try of it, made the object.
    Made(K),
    /// The object is there, for the same submission; perhaps another try of the submit has made it.
    Shared(K),
    /// Another one has the name.
    Taken(K),
}

/// An object to be changed, by name and uid, and only in this version if there is one.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    pub name: &'a str,
    pub uid: &'a str,
    pub version: Option<&'a str>,
}

/// What a delete came to.
#[derive(Debug)]
pub enum Deleted<K> {
    /// There is no such object any more.
    Gone,
    /// It goes when its finalizers are removed.
    Held(K),
}

impl Calls {
    /// Calls to `namespace` through `client`.
    #[must_use]
    pub fn new(client: Client, namespace: String, clock: Clock) -> Self {
        Self {
            client,
            namespace,
            clock,
            refusals: Arc::default(),
        }
    }

    /// Waits until Kubernetes refuses something that we need.
    pub async fn refused(&self) {
        self.refusals.notified().await;
    }

    /// Notes a failure: some mean that something is missing that was there before.
    pub fn note(&self, error: &kube::Error) {
        if let kube::Error::Api(status) = error
            && (status.code == 403 || is_about_namespace(status))
        {
            self.refusals.notify_one();
        }
    }

    /// The time of day.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Typed access, for watches and log streams, which have their own ends.
    #[must_use]
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = kube::core::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Asks the API server for its version, such as `v1.37.2`: the cheapest proof that it answers.
    ///
    /// # Errors
    /// It does not answer within `limit`.
    pub async fn probe(&self, limit: Duration) -> Result<String, Error> {
        let version = once("reach the Kubernetes API", limit, self.client.apiserver_version()).await;
        Ok(version.answer?.git_version)
    }

    /// Whether the API server says that it can do its work, such as writing its store. One that does not answer at once, or that does
    /// not let us ask, says nothing: that the cache has not heard from it for too long is found there.
    ///
    /// # Errors
    /// It says that it is not ready, and why.
    pub async fn check_ready(&self) -> Result<(), Error> {
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

    /// The machines of the cluster. The server may lack the right to see them, which are of no namespace.
    ///
    /// # Errors
    /// Kubernetes could not be reached, or refused.
    pub async fn nodes(&self) -> Result<Vec<Node>, Error> {
        let api: Api<Node> = Api::all(self.client.clone());
        let params = ListParams::default();
        let nodes = self.repeated("list nodes", READ_TIMEOUT, || api.list(&params)).await;
        Ok(nodes.answer?.items)
    }

    /// Lets Kubernetes check an object as if it were created, with quotas and policies. Nothing is kept.
    ///
    /// # Errors
    /// Kubernetes refused it, or could not be reached.
    pub async fn check<K>(&self, action: &'static str, object: &K) -> Result<(), Error>
    where
        K: Resource<Scope = kube::core::NamespaceResourceScope> + Clone + DeserializeOwned + Serialize + Debug,
        K::DynamicType: Default,
    {
        let api = self.api::<K>();
        let params = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        self.repeated(action, WRITE_TIMEOUT, || api.create(&params, object))
            .await
            .answer
            .map(drop)
    }

    /// Whether we may do this in the namespace.
    ///
    /// # Errors
    /// Kubernetes does not say, or could not be reached.
    pub async fn may(&self, attributes: ResourceAttributes) -> Result<bool, Error> {
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
        let answer = self
            .repeated("review our rights", READ_TIMEOUT, || api.create(&params, &review))
            .await;
        Ok(answer.answer?.status.is_some_and(|status| status.allowed))
    }

    /// The labels of the namespace; `None` when we may not read it.
    ///
    /// # Errors
    /// It does not exist, or Kubernetes could not be reached.
    pub async fn namespace_labels(&self) -> Result<Option<BTreeMap<String, String>>, Error> {
        let api: Api<Namespace> = Api::all(self.client.clone());
        match self
            .repeated("read the namespace", READ_TIMEOUT, || api.get(&self.namespace))
            .await
            .answer
        {
            Ok(namespace) => Ok(Some(namespace.metadata.labels.unwrap_or_default())),
            Err(error) if error.is_forbidden() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Creates an object with a name of our choice. A try whose answer was lost is repeated: the annotations tell whether the
    /// object that has the name is ours. What Kubernetes warns of is added to `warnings`.
    ///
    /// # Errors
    /// Kubernetes refused it, or could not be reached; then it may or may not exist.
    pub async fn create<K>(
        &self,
        action: &'static str,
        object: &K,
        warnings: &mut Vec<String>,
    ) -> Result<Created<K>, Error>
    where
        K: Resource<Scope = kube::core::NamespaceResourceScope> + Clone + DeserializeOwned + Serialize + Debug,
        K::DynamicType: Default,
    {
        let api = self.api::<K>();
        let params = PostParams::default();
        let made = self
            .repeated(action, WRITE_TIMEOUT, || api.create(&params, object))
            .await;
        warnings.extend(made.warnings);
        match made.answer {
            Ok(made) => Ok(Created::Made(made)),
            Err(error) if error.is_already_exists() => {
                let Some(existing) = self.get::<K>(action, &object.name_any()).await? else {
                    return Err(error);
                };
                Ok(compared(existing, object))
            }
            Err(error) => Err(error),
        }
    }

    /// Reads one object; `None` when there is none.
    ///
    /// # Errors
    /// Kubernetes could not be reached, or refused.
    pub async fn get<K>(&self, action: &'static str, name: &str) -> Result<Option<K>, Error>
    where
        K: Resource<Scope = kube::core::NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
        K::DynamicType: Default,
    {
        let api = self.api::<K>();
        found(self.repeated(action, READ_TIMEOUT, || api.get(name)).await.answer)
    }

    /// Lists objects by labels.
    ///
    /// # Errors
    /// Kubernetes could not be reached, or refused.
    pub async fn list<K>(&self, action: &'static str, labels: &str) -> Result<Vec<K>, Error>
    where
        K: Resource<Scope = kube::core::NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
        K::DynamicType: Default,
    {
        let api = self.api::<K>();
        let params = ListParams::default().labels(labels);
        Ok(self
            .repeated(action, READ_TIMEOUT, || api.list(&params))
            .await
            .answer?
            .items)
    }

    /// Merges `change` into an object; `None` when there is none.
    ///
    /// # Errors
    /// Kubernetes could not be reached, or refused; a conflict when the version is not the newest. A try whose answer was lost may
    /// have changed it, and then the next one is a conflict.
    pub async fn merge<K>(
        &self,
        action: &'static str,
        target: Target<'_>,
        mut change: Value,
    ) -> Result<Option<K>, Error>
    where
        K: Resource<Scope = kube::core::NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
        K::DynamicType: Default,
    {
        // A patch that names the uid is refused for another object of the same name, and so is one that names another version.
        change["metadata"]["uid"] = target.uid.into();
        if let Some(version) = target.version {
            change["metadata"]["resourceVersion"] = version.into();
        }
        let api = self.api::<K>();
        let (params, patch) = (PatchParams::default(), Patch::Merge(change));
        found(
            self.repeated(action, WRITE_TIMEOUT, || api.patch(target.name, &params, &patch))
                .await
                .answer,
        )
    }

    /// Deletes an object, and in the background what it owns. Nothing there is a success.
    ///
    /// # Errors
    /// Kubernetes could not be reached, or refused; a conflict when a version is given and is not the newest.
    pub async fn delete<K>(&self, action: &'static str, target: Target<'_>) -> Result<Deleted<K>, Error>
    where
        K: Resource<Scope = kube::core::NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
        K::DynamicType: Default,
    {
        let api = self.api::<K>();
        let params = DeleteParams::background().preconditions(kube::api::Preconditions {
            uid: Some(target.uid.to_owned()),
            resource_version: target.version.map(str::to_owned),
        });
        match found(
            self.repeated(action, WRITE_TIMEOUT, || api.delete(target.name, &params))
                .await
                .answer,
        ) {
            Ok(answer) => {
                let left = answer.and_then(|answer| answer.left());
                let held = left.filter(|object| !object.finalizers().is_empty());
                Ok(held.map_or(Deleted::Gone, Deleted::Held))
            }
            // Another object may have the name by now: then the one that was meant is gone.
            Err(error) if target.version.is_none() && error.is_conflict() => {
                let object = self.get::<K>(action, target.name).await?;
                let is_still_there = object.is_some_and(|object| object.meta().uid.as_deref() == Some(target.uid));
                if is_still_there { Err(error) } else { Ok(Deleted::Gone) }
            }
            Err(error) => Err(error),
        }
    }

    /// Runs a call until Kubernetes has given an answer that will not change by itself, or the tries or the time are over.
    async fn repeated<T, F>(&self, action: &'static str, limit: Duration, mut call: impl FnMut() -> F) -> Outcome<T>
    where
        F: Future<Output = Result<T, kube::Error>>,
    {
        let start = Instant::now();
        let mut pauses = RETRY_PAUSES.into_iter();
        loop {
            let outcome = once(action, limit, call()).await;
            if let Err(Error::Kubernetes { source, .. }) = &outcome.answer {
                self.note(source);
            }
            let pause = pauses
                .next()
                .map(|pause| outcome.retry_after.unwrap_or(pause).max(pause));
            match (&outcome.answer, pause) {
                (Err(error), Some(pause)) if error.is_transient() && start.elapsed() + pause < RETRY_LIMIT => {
                    tracing::debug!(action, %error, "trying again");
                    sleep(pause).await;
                }
                _ => return outcome,
            }
        }
    }
}

/// Whether it is the namespace that does not exist.
fn is_about_namespace(status: &Status) -> bool {
    let details = status.details.as_ref();
    status.code == 404 && details.is_some_and(|details| details.kind == "namespaces")
}

/// Whose the object is that has the name of `wanted`. The same token is not enough: objects of one task have one owner, too.
fn compared<K: Resource>(existing: K, wanted: &K) -> Created<K> {
    let same = |of: fn(&K) -> Option<&str>| of(&existing) == of(wanted);
    let annotation = |object: &'_ K, name: &str| object.annotations().get(name).cloned();
    let is_ours = same(|object| labels::submission(object.annotations()))
        && same(|object| object.labels().get(labels::USER).map(String::as_str))
        && same(|object| object.owner_references().first().map(|owner| owner.uid.as_str()));
    if !is_ours {
        Created::Taken(existing)
    } else if annotation(&existing, labels::TRY) == annotation(wanted, labels::TRY) {
        Created::Made(existing)
    } else {
        Created::Shared(existing)
    }
}

/// What a call came to.
struct Outcome<T> {
    answer: Result<T, Error>,
    /// What Kubernetes warns of.
    warnings: Vec<String>,
    /// How long the API server asks us to wait before another try.
    retry_after: Option<Duration>,
}

/// Runs one call, with its end and its measure.
async fn once<T>(
    action: &'static str,
    limit: Duration,
    call: impl Future<Output = Result<T, kube::Error>>,
) -> Outcome<T> {
    let start = Instant::now();
    let (result, headers) = answer::heard(timeout(limit, call)).await;
    let answer = match result {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(source)) => Err(Error::Kubernetes {
            action,
            source: Box::new(source),
        }),
        Err(_) => Err(Error::Timeout { action, limit }),
    };
    metrics::histogram!("k8s_cli_kubernetes_call_seconds", "outcome" => if answer.is_ok() { "ok" } else { "error" })
        .record(start.elapsed().as_secs_f64());
    Outcome {
        answer,
        warnings: headers.warnings,
        retry_after: headers.retry_after,
    }
}

fn found<T>(answer: Result<T, Error>) -> Result<Option<T>, Error> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
