//! The same work, done with kube-apiserver alone.

use std::time::{Duration, Instant};

use anyhow::Context;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tokio::time::sleep;

use crate::measure::{for_a_while, repeat};

/// Time limit for the controllers to finish with what was created.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(600);

/// A namespace of the cluster, for one run.
pub(crate) struct Kubernetes {
    client: Client,
    pub namespace: String,
}

impl Kubernetes {
    /// Creates the namespace.
    pub(crate) async fn connect() -> anyhow::Result<Self> {
        let client = Client::try_default()
            .await
            .context("no cluster; run `cargo xtask cluster`")?;
        let namespace = format!("bench-{:08x}", fastrand::u32(..));
        let manifest: Namespace = serde_json::from_value(json!({"metadata": {"name": namespace}}))?;
        Api::all(client.clone())
            .create(&PostParams::default(), &manifest)
            .await?;
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), &namespace);
        while accounts.get_opt("default").await?.is_none() {
            sleep(Duration::from_millis(50)).await;
        }
        Ok(Self { client, namespace })
    }

    /// Deletes the namespace.
    pub(crate) async fn delete(&self) {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        if let Err(error) = namespaces.delete(&self.namespace, &DeleteParams::default()).await {
            eprintln!("cannot delete the namespace `{}`: {error}", self.namespace);
        }
    }

    fn jobs(&self) -> Api<Job> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Creates Jobs like those of a task, except that the server does not watch them.
    pub(crate) async fn create(&self, template: &Job, concurrency: usize, count: usize) -> anyhow::Result<Duration> {
        repeat(
            concurrency,
            count,
            async || Ok(self.jobs()),
            async |jobs| {
                let mut job = template.clone();
                job.metadata.name = Some(format!("bench-{:016x}", fastrand::u64(..)));
                // Decodes the response, as the server does.
                jobs.create(&PostParams::default(), &job).await?;
                Ok(())
            },
        )
        .await
    }

    /// Waits until the controllers have finished with all Jobs.
    pub(crate) async fn calm(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + SETTLE_TIMEOUT;
        while !self.all_ended().await? {
            anyhow::ensure!(
                Instant::now() < deadline,
                "timed out waiting for the Jobs to finish; start simulated nodes with `test-cluster/cluster kwok 4`"
            );
            sleep(Duration::from_millis(500)).await;
        }
        Ok(())
    }

    /// Whether all Jobs have succeeded; looks for a single one that has not, because a full list is slow.
    async fn all_ended(&self) -> anyhow::Result<bool> {
        let active = ListParams::default().fields("status.successful=0").limit(1);
        Ok(self.jobs().list(&active).await?.items.is_empty())
    }

    /// Waits until all tasks and Jobs are finished.
    pub(crate) async fn settle(&self, tasks: usize) -> anyhow::Result<()> {
        eprintln!("waiting for the controllers to finish {tasks} tasks and {tasks} Jobs");
        self.calm().await
    }

    /// Returns the name of some Job.
    pub(crate) async fn any_job(&self) -> anyhow::Result<String> {
        let jobs = self.jobs().list(&ListParams::default().limit(1)).await?;
        Ok(jobs.items.first().context("the namespace has no Job")?.name_any())
    }

    /// Measures reads of a Job per second, without decoding the response: the best case for kube-apiserver.
    pub(crate) async fn reads(&self, concurrency: usize, limit: Duration, job: &str) -> anyhow::Result<f64> {
        let path = format!("/apis/batch/v1/namespaces/{}/jobs/{job}", self.namespace);
        for_a_while(
            concurrency,
            limit,
            async || Ok(self.client.clone()),
            async |client| {
                let request = http_get(&path)?;
                client.request_text(request).await?;
                Ok(())
            },
        )
        .await
    }

    /// Measures a list of the tasks' Jobs, without decoding the response.
    pub(crate) async fn list_time(&self) -> anyhow::Result<Duration> {
        let path = format!(
            "/apis/batch/v1/namespaces/{}/jobs?labelSelector=skypilot-task%3Dtrue",
            self.namespace
        );
        let start = Instant::now();
        const TIMES: u32 = 5;
        for _ in 0..TIMES {
            self.client.request_text(http_get(&path)?).await?;
        }
        Ok(start.elapsed() / TIMES)
    }
}

fn http_get(path: &str) -> anyhow::Result<http::Request<Vec<u8>>> {
    Ok(http::Request::get(path).body(Vec::new())?)
}
