//! Chooses the Kubernetes that tasks run on, once at startup.

use std::path::Path;

use anyhow::{Context, bail};
use embedded::{Engine, EngineOptions};
use executor::KubeClient;
use task::wire::BackendKind;

use crate::args::{Args, BackendChoice};

/// The chosen Kubernetes.
pub(crate) struct Backend {
    pub client: KubeClient,
    /// The embedded engine, unless tasks run on a cluster.
    engine: Option<Engine>,
}

impl Backend {
    /// Connects to the configured cluster, or starts the embedded engine if no cluster is configured. An invalid
    /// kubeconfig is an error: falling back to this machine would run tasks where the user does not expect them.
    pub(crate) async fn choose(args: &Args) -> anyhow::Result<Self> {
        let client = match args.backend {
            BackendChoice::Embedded => None,
            BackendChoice::Cluster => Some(executor::connect().await?),
            BackendChoice::Auto => match executor::connect().await {
                Ok(client) => Some(client),
                Err(executor::Error::NoCluster) => None,
                Err(error) => return Err(error.into()),
            },
        };
        match client {
            Some(_) if args.kube_listen.is_some() || args.state_dir.is_some() => {
                bail!(
                    "`--kube-listen` and `--state-dir` apply only when tasks run on this machine, but a cluster is \
                     configured; add `--backend embedded`"
                )
            }
            Some(client) => {
                tracing::info!(
                    event = "backend",
                    backend = "cluster",
                    "tasks run on the configured cluster"
                );
                Ok(Self { client, engine: None })
            }
            None => Self::start_embedded(args).await,
        }
    }

    async fn start_embedded(args: &Args) -> anyhow::Result<Self> {
        let state_dir = match &args.state_dir {
            Some(dir) => dir.clone(),
            None => embedded::default_state_dir()?,
        };
        let engine = Engine::start(EngineOptions {
            state_dir,
            log_limit: args.log_limit << 20,
            total_log_limit: args.total_log_limit << 20,
        })
        .await?;
        tracing::warn!(
            event = "backend",
            backend = "embedded",
            state = %engine.state_dir().display(),
            "tasks run on THIS MACHINE, not on a cluster: as the server's user, with access to its files, and without \
             container images. To use a cluster, set KUBECONFIG"
        );
        if let Some(address) = args.kube_listen {
            let (kubeconfig, address) = engine.listen(address).await?;
            tracing::info!(
                event = "kube_listening",
                %address,
                kubeconfig = %kubeconfig.display(),
                "to use kubectl, run: export KUBECONFIG={}",
                kubeconfig.display()
            );
        }
        let client = executor::client(engine.router(), "default");
        if let Some(namespace) = &args.namespace {
            executor::ensure_namespace(&client, namespace).await.with_context(|| {
                format!("cannot create namespace `{namespace}`; use `--namespace` to choose another")
            })?;
        }
        Ok(Self {
            client,
            engine: Some(engine),
        })
    }

    /// Which Kubernetes was chosen.
    pub(crate) fn kind(&self) -> BackendKind {
        match self.engine {
            Some(_) => BackendKind::Embedded,
            None => BackendKind::Cluster,
        }
    }

    /// The state directory of the embedded engine.
    pub(crate) fn state_dir(&self) -> Option<&Path> {
        self.engine.as_ref().map(Engine::state_dir)
    }

    /// Stops the embedded engine, if there is one.
    pub(crate) async fn stop(&self) {
        if let Some(engine) = &self.engine {
            engine.stop().await;
        }
    }
}
