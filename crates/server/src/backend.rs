//! Which Kubernetes the tasks run on: the one choice, made at the start.

use anyhow::{Context, bail};
use embedded::{Engine, Options};
use kube::Client;

use crate::args::{Args, BackendChoice};

/// The Kubernetes that was chosen.
pub struct Backend {
    /// The way to it.
    pub client: Client,
    /// It, when it is in this process.
    engine: Option<Engine>,
}

impl Backend {
    /// A cluster if one is configured, else this machine. A configuration that is broken is an error.
    ///
    /// # Errors
    /// The cluster that is configured, or this machine, cannot be used.
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
                    "`--kube-listen` and `--state-dir` are for tasks on this machine, but a cluster is configured; add `--backend embedded`"
                )
            }
            Some(client) => {
                tracing::info!(
                    event = "backend",
                    backend = "cluster",
                    "tasks run on the cluster that is configured"
                );
                Ok(Self { client, engine: None })
            }
            None => Self::embedded(args).await,
        }
    }

    async fn embedded(args: &Args) -> anyhow::Result<Self> {
        let state_folder = match &args.state_dir {
            Some(folder) => folder.clone(),
            None => embedded::state_folder()?,
        };
        let engine = Engine::start(Options {
            state_folder,
            log_limit: args.log_limit << 20,
            total_log_limit: args.total_log_limit << 20,
        })
        .await?;
        tracing::warn!(
            event = "backend",
            backend = "embedded",
            state = %engine.folder().display(),
            "no cluster: tasks run on THIS MACHINE, as its user, with its files; images are not used. To use a cluster, set KUBECONFIG"
        );
        if let Some(address) = args.kube_listen {
            let (kubeconfig, address) = engine.listen(address).await?;
            tracing::info!(
                event = "kube_listening",
                %address,
                kubeconfig = %kubeconfig.display(),
                "kubectl can be used: export KUBECONFIG={}",
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

    /// Its name, as `--backend` has it.
    pub fn name(&self) -> &'static str {
        if self.is_this_machine() { "embedded" } else { "cluster" }
    }

    /// Whether tasks are processes of this machine.
    pub fn is_this_machine(&self) -> bool {
        self.engine.is_some()
    }

    /// Ends what is in this process.
    pub async fn stop(&self) {
        if let Some(engine) = &self.engine {
            engine.stop().await;
        }
    }
}

/// Nobody else makes namespaces on this machine.
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
            Err(error).with_context(|| format!("cannot make the namespace `{name}`; choose another with `--namespace`"))
        }
    }
}
