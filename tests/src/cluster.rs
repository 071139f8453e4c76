//! Access to the cluster behind the server, for checks and for changes by a test.

use std::fmt::{Debug, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::BodyExt;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{
    ConfigMap, Event, Namespace, Node, PersistentVolumeClaim, Pod, ResourceQuota, ServiceAccount,
};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::eventually;

/// One namespace of the cluster.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    config: Config,
    /// Its name.
    pub namespace: String,
}

impl Cluster {
    /// Connects to the cluster that `KUBECONFIG` names, with an existing namespace or else a new one.
    pub async fn connect(namespace: Option<String>) -> Self {
        let config = Config::infer()
            .await
            .expect("no cluster; run `test-cluster/cluster up`, or set KUBECONFIG");
        match namespace {
            Some(namespace) => Self::of(config, namespace),
            None => Self::create(config).await,
        }
    }

    /// Connects to the cluster of a kubeconfig.
    pub async fn of_file(path: &Path, namespace: &str) -> Self {
        let kubeconfig = Kubeconfig::read_from(path).expect("the engine has not written its kubeconfig");
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
            .await
            .unwrap();
        Self::of(config, namespace.to_owned())
    }

    fn of(config: Config, namespace: String) -> Self {
        let client = Client::try_from(config.clone()).unwrap();
        Self {
            client,
            config,
            namespace,
        }
    }

    /// Returns the same with new connections, which can be used in another runtime.
    #[must_use]
    pub fn reconnected(&self) -> Self {
        Self::of(self.config.clone(), self.namespace.clone())
    }

    async fn create(config: Config) -> Self {
        let namespace = format!("e2e-{:08x}", fastrand::u32(..));
        let manifest: Namespace = serde_json::from_value(json!({"metadata": {"name": namespace}})).unwrap();
        let cluster = Self::of(config, namespace);
        cluster
            .global()
            .create(&PostParams::default(), &manifest)
            .await
            .unwrap();
        // No pod can be created before the namespace has its default account. After a test has stopped kube-apiserver,
        // the controllers try again within one minute: client-go doubles the wait up to 30 s and adds up to the same.
        eventually(Duration::from_secs(90), "the default service account", async || {
            cluster.api::<ServiceAccount>().get_opt("default").await.unwrap()
        })
        .await;
        cluster
    }

    /// Waits until no object has this name.
    pub async fn wait_until_gone<K>(&self, limit: Duration, name: &str)
    where
        K: Resource<Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
        K::DynamicType: Default,
    {
        eventually(limit, &format!("`{name}` to be deleted"), async || {
            self.api::<K>().get_opt(name).await.unwrap().is_none().then_some(())
        })
        .await;
    }

    /// Waits until the namespaces of finished tests are deleted, because terminating pods slows down a small machine.
    pub async fn wait_for_deletions(&self) {
        eventually(Duration::from_secs(180), "other namespaces to be deleted", async || {
            let namespaces = self.global::<Namespace>().list(&ListParams::default()).await.unwrap();
            let is_going = |namespace: &Namespace| namespace.metadata.deletion_timestamp.is_some();
            (!namespaces.items.iter().any(is_going)).then_some(())
        })
        .await;
    }

    /// Starts the deletion of the namespace and its objects.
    pub async fn delete(&self) {
        let params = DeleteParams::default();
        let _ = Api::<Namespace>::all(self.client.clone())
            .delete(&self.namespace, &params)
            .await;
    }

    /// Typed access to the objects of the namespace.
    #[must_use]
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Typed access to objects outside of namespaces.
    #[must_use]
    pub fn global<K>(&self) -> Api<K>
    where
        K: Resource<Scope = k8s_openapi::ClusterResourceScope>,
        K::DynamicType: Default,
    {
        Api::all(self.client.clone())
    }

    /// Sends a raw request to the Kubernetes API and returns the status and the whole body.
    pub async fn raw(&self, request: http::Request<Vec<u8>>) -> (u16, Vec<u8>) {
        let response = self.client.send(request.map(Into::into)).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap();
        (status, body.to_bytes().to_vec())
    }

    /// Creates an object.
    pub async fn make<K>(&self, manifest: Value) -> K
    where
        K: Resource<Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Serialize + Debug,
        K::DynamicType: Default,
    {
        let object: K = serde_json::from_value(manifest).unwrap();
        self.api::<K>().create(&PostParams::default(), &object).await.unwrap()
    }

    /// Sets a quota and waits until it is in effect.
    pub async fn set_quota(&self, hard: Value) {
        let quota = json!({"metadata": {"name": "limit"}, "spec": {"hard": hard}});
        let _: ResourceQuota = self.make(quota).await;
        eventually(Duration::from_secs(20), "the quota to be in effect", async || {
            let quota = self.api::<ResourceQuota>().get("limit").await.unwrap();
            quota.status.and_then(|status| status.hard).map(drop)
        })
        .await;
    }

    /// Makes Kubernetes count again what the quota of [`Self::set_quota`] has left.
    ///
    /// Its quota controller counts after each deletion, but keeps the count if its own copy of the quota is older than
    /// the creation, as on a busy machine, and then counts again only after 5 minutes
    /// (`--resource-quota-sync-period`), or when the limits change.
    pub async fn recount_quota(&self) {
        let change = json!({"spec": {"hard": {"count/endpoints": fastrand::u32(1000..).to_string()}}});
        let quotas = self.api::<ResourceQuota>();
        quotas
            .patch("limit", &PatchParams::default(), &Patch::Merge(change))
            .await
            .unwrap();
    }

    /// Returns the Jobs of a task, in rank order.
    pub async fn jobs(&self, id: &str) -> Vec<Job> {
        let params = ListParams::default().labels(&format!("task-id={id}"));
        let mut jobs = self.api::<Job>().list(&params).await.unwrap().items;
        jobs.sort_by_key(ResourceExt::name_any);
        jobs
    }

    /// Returns all Jobs.
    pub async fn all_jobs(&self) -> Vec<Job> {
        self.api::<Job>().list(&ListParams::default()).await.unwrap().items
    }

    /// Returns all owners of tasks.
    pub async fn owners(&self) -> Vec<ConfigMap> {
        let params = ListParams::default().labels("skypilot-task=true");
        self.api::<ConfigMap>().list(&params).await.unwrap().items
    }

    /// Returns all pods.
    pub async fn pods(&self) -> Vec<Pod> {
        self.api::<Pod>().list(&ListParams::default()).await.unwrap().items
    }

    /// Describes pods and their events, which usually explain why nothing happens.
    pub(crate) async fn describe(&self) -> Result<String, kube::Error> {
        let mut text = String::new();
        for pod in self.api::<Pod>().list(&ListParams::default()).await?.items {
            let status = json!(pod.status);
            let _ = writeln!(
                text,
                "pod {}: {} {}",
                pod.name_any(),
                status["phase"],
                status["containerStatuses"]
            );
        }
        for event in self.api::<Event>().list(&ListParams::default()).await?.items {
            let (about, count) = (event.involved_object.name.unwrap_or_default(), event.count.unwrap_or(1));
            let (reason, message) = (event.reason.unwrap_or_default(), event.message.unwrap_or_default());
            let _ = writeln!(text, "event of {about}, {count} times: {reason}: {message}");
        }
        Ok(text)
    }

    /// Returns the CPU of the largest cluster node, in millicores.
    pub async fn largest_node_millicpus(&self) -> u64 {
        let nodes = self.global::<Node>().list(&ListParams::default()).await.unwrap().items;
        let allocatable = |node: &Node| {
            let amount = node.status.as_ref()?.allocatable.as_ref()?.get("cpu")?.0.clone();
            match amount.strip_suffix('m') {
                Some(thousandths) => thousandths.parse().ok(),
                None => amount.parse::<u64>().ok().map(|whole| whole * 1000),
            }
        };
        nodes.iter().filter_map(allocatable).max().unwrap()
    }

    /// Cordons or uncordons all cluster nodes, which affects all tests.
    pub async fn cordon(&self, unschedulable: bool) {
        let nodes = self.global::<Node>();
        let patch = Patch::Merge(json!({"spec": {"unschedulable": unschedulable}}));
        for node in nodes.list(&ListParams::default()).await.unwrap().items {
            nodes
                .patch(&node.name_any(), &PatchParams::default(), &patch)
                .await
                .unwrap();
        }
    }

    /// Evicts a pod, as a drain of its cluster node does.
    pub async fn evict(&self, pod: &str) {
        let params = kube::api::EvictParams::default();
        self.api::<Pod>().evict(pod, &params).await.unwrap();
    }

    /// Creates a kubeconfig for a service account of the namespace. The caller deletes the file.
    pub async fn kubeconfig_of(&self, account: &str) -> PathBuf {
        let request: TokenRequest = serde_json::from_value(json!({"spec": {"audiences": []}})).unwrap();
        let token = self
            .api::<ServiceAccount>()
            .create_token_request(account, &PostParams::default(), &request)
            .await
            .unwrap();
        let mut config = Kubeconfig::read().unwrap();
        let token = token.status.unwrap().token;
        config.auth_infos[0].auth_info = Some(serde_json::from_value(json!({"token": token})).unwrap());
        let path = std::env::temp_dir().join(format!("k8s-cli-e2e-{account}-{:016x}", fastrand::u64(..)));
        std::fs::write(&path, serde_json::to_vec(&config).unwrap()).unwrap();
        path
    }

    /// Returns the claim of a volume.
    pub async fn claim(&self, id: &str) -> Option<PersistentVolumeClaim> {
        let params = ListParams::default().labels(&format!("volume-id={id}"));
        self.api::<PersistentVolumeClaim>()
            .list(&params)
            .await
            .unwrap()
            .items
            .pop()
    }
}
