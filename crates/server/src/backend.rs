//! Chooses the Kubernetes that tasks run on, once at startup.

use anyhow::{Context, bail};
use embedded::{Engine, EngineOptions};
use kube::Client;

use crate::args::{Args, BackendChoice};

/// The chosen Kubernetes.
pub struct Backend {
    pub client: Client,
    /// The embedded engine, unless tasks run on a cluster.
    engine: Option<Engine>,
}

impl Backend {
    /// Connects to the configured cluster, or starts the embedded engine if no cluster is configured. An invalid
    /// kubeconfig is an error: falling back to this machine would run tasks where the user does not expect them.
    pub async fn choose(args: &Args) -> anyhow::Result<Self> {
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
            None => Self::embedded(args).await,
        }
    }

    async fn embedded(args: &Args) -> anyhow::Result<Self> {
        let state_dir = match &args.state_dir {
            Some(folder) => folder.clone(),
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
            make_namespace(&client, namespace).await?;
        }
        Ok(Self {
            client,
            engine: Some(engine),
        })
    }

    /// The name of the backend, as in `--backend`.
    pub fn name(&self) -> &'static str {
        if self.is_this_machine() { "embedded" } else { "cluster" }
    }

    /// Whether tasks run as processes on this machine.
    pub fn is_this_machine(&self) -> bool {
        self.engine.is_some()
    }

    /// Stops the embedded engine, if there is one.
    pub async fn stop(&self) {
        if let Some(engine) = &self.engine {
            engine.stop().await;
        }
    }
}

/// Creates the namespace. On a cluster, an administrator does this; in the embedded engine, nobody else would.
async fn make_namespace(client: &Client, name: &str) -> anyhow::Result<()> {
    use k8s_openapi::api::core::v1::Namespace;
    use kube::api::{Api, ObjectMeta, PostParams};
    let namespace = Namespace {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    };
    match Api::all(client.clone())
        .create(&PostParams::default(), &namespace)
        .await
    {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
        Err(error) => {
            Err(error).with_context(|| format!("cannot create namespace `{name}`; use `--namespace` to choose another"))
        }
    }
}
