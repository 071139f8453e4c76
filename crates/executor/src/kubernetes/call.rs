//! Single calls to the Kubernetes API: each ends in time, is measured, and is repeated only where that is safe.

use std::fmt::Debug;
use std::future::Future;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::{sleep, timeout};

use super::{Api, Client, DeleteParams, ListParams, Node, Patch, PatchParams, PostParams, Resource, ResourceExt};
use crate::error::Error;
use crate::labels;

/// How long one call may take. Kubernetes' own objective for 99 of 100 calls is 1 s; an overloaded API server is given
/// more, and a caller is not left waiting for ever.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// The pauses before a call is tried again. Together they are shorter than a person's patience.
const RETRY_PAUSES: [Duration; 3] = [
    Duration::from_millis(100),
    Duration::from_millis(400),
    Duration::from_millis(1500),
];

/// Calls to one namespace.
#[derive(Clone)]
pub struct Calls {
    client: Client,
    namespace: String,
}

/// What a create came to.
#[derive(Debug)]
pub enum Created<K> {
    /// The object is there, and this call, or an earlier try of it, made it.
    Ours(K),
    /// Another one has the name.
    Taken(K),
}

impl Calls {
    /// Calls to `namespace` through `client`.
    #[must_use]
    pub fn new(client: Client, namespace: String) -> Self {
        Self { client, namespace }
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
        let version = once("reach the Kubernetes API", limit, self.client.apiserver_version()).await?;
        Ok(version.git_version)
    }

    /// The machines of the cluster. The server may lack the right to see them, which are of no namespace.
    ///
    /// # Errors
    /// Kubernetes could not be reached, or refused.
    pub async fn nodes(&self) -> Result<Vec<Node>, Error> {
        let api: Api<Node> = Api::all(self.client.clone());
        let params = ListParams::default();
        Ok(repeated("list nodes", || api.list(&params)).await?.items)
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
        repeated(action, || api.create(&params, object)).await.map(drop)
    }

    /// Creates an object with a name of our choice. A try whose answer was lost is repeated: the submission annotation
    /// tells whether the object that has the name is ours.
    ///
    /// # Errors
    /// Kubernetes refused it, or could not be reached; then it may or may not exist.
    pub async fn create<K>(&self, action: &'static str, object: &K) -> Result<Created<K>, Error>
    where
        K: Resource<Scope = kube::core::NamespaceResourceScope> + Clone + DeserializeOwned + Serialize + Debug,
        K::DynamicType: Default,
    {
        let api = self.api::<K>();
        let params = PostParams::default();
        let made = repeated(action, || api.create(&params, object)).await;
        match made {
            Ok(made) => Ok(Created::Ours(made)),
            Err(error) if error.is_already_exists() => {
                let Some(existing) = self.get::<K>(action, &object.name_any()).await? else {
                    return Err(error);
                };
                let ours = labels::submission(existing.annotations()) == labels::submission(object.annotations());
                Ok(if ours {
                    Created::Ours(existing)
                } else {
                    Created::Taken(existing)
                })
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
        found(repeated(action, || api.get(name)).await)
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
        Ok(repeated(action, || api.list(&params)).await?.items)
    }

    /// Merges `change` into the object with this `uid`; `None` when there is none.
    ///
    /// # Errors
    /// Kubernetes could not be reached, or refused.
    pub async fn merge<K>(
        &self,
        action: &'static str,
        name: &str,
        uid: &str,
        mut change: Value,
    ) -> Result<Option<K>, Error>
    where
        K: Resource<Scope = kube::core::NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
        K::DynamicType: Default,
    {
        // A patch that names the uid is refused for another object of the same name.
        change["metadata"]["uid"] = uid.into();
        let api = self.api::<K>();
        let (params, patch) = (PatchParams::default(), Patch::Merge(change));
        found(repeated(action, || api.patch(name, &params, &patch)).await)
    }

    /// Deletes the object with this `uid`, and in the background what it owns. Nothing there is a success.
    ///
    /// # Errors
    /// Kubernetes could not be reached, or refused; a conflict when `version` is given and is not the newest.
    pub async fn delete<K>(
        &self,
        action: &'static str,
        name: &str,
        uid: &str,
        version: Option<&str>,
    ) -> Result<(), Error>
    where
        K: Resource<Scope = kube::core::NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
        K::DynamicType: Default,
    {
        let api = self.api::<K>();
        let params = DeleteParams::background().preconditions(kube::api::Preconditions {
            uid: Some(uid.to_owned()),
            resource_version: version.map(str::to_owned),
        });
        match found(repeated(action, || api.delete(name, &params)).await) {
            Ok(_) => Ok(()),
            // Another object has the name by now: the one that was meant is gone.
            Err(error) if version.is_none() && error.is_conflict() => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Runs one call, with its end and its measure.
async fn once<T>(
    action: &'static str,
    limit: Duration,
    call: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, Error> {
    let start = Instant::now();
    let result = match timeout(limit, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(source)) => Err(Error::Kubernetes {
            action,
            source: Box::new(source),
        }),
        Err(_) => Err(Error::Timeout { action, limit }),
    };
    metrics::histogram!("k8s_cli_kubernetes_call_seconds", "outcome" => if result.is_ok() { "ok" } else { "error" })
        .record(start.elapsed().as_secs_f64());
    result
}

/// Runs a call until Kubernetes has given an answer that will not change by itself, or the tries are over.
async fn repeated<T, F>(action: &'static str, mut call: impl FnMut() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, kube::Error>>,
{
    for pause in RETRY_PAUSES {
        match once(action, CALL_TIMEOUT, call()).await {
            Err(error) if error.is_transient() => {
                tracing::debug!(action, error = %error, "trying again");
                sleep(pause).await;
            }
            answer => return answer,
        }
    }
    once(action, CALL_TIMEOUT, call()).await
}

fn found<T>(answer: Result<T, Error>) -> Result<Option<T>, Error> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}
