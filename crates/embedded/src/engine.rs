//! The engine as a whole: startup, entry points, and shutdown.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use clock::Clock;
use tokio_util::sync::CancellationToken;

use crate::api::{Api, router};
use crate::bootstrap::bootstrap;
use crate::controllers::ControllerManager;
use crate::error::Error;
use crate::kubelet::{Kubelet, KubeletConfig, build_node, node_name};
use crate::status_error::StatusError;
use crate::store::{Durability, Store};
use crate::{kubectl, state_dir};

/// Settings of an [`Engine`].
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// State directory. Created if it doesn't exist.
    pub state_dir: PathBuf,
    /// Size limit for the log of one pod, in bytes. The oldest part is removed first.
    pub log_limit: u64,
    /// Size limit for the logs of all pods together, in bytes. The oldest parts are removed first.
    pub total_log_limit: u64,
}

/// A small Kubernetes: API server, controllers, and one node.
pub struct Engine {
    store: Arc<Store>,
    kubelet: Arc<Kubelet>,
    api: Api,
    state_dir: PathBuf,
    stopping: CancellationToken,
}

/// Returns the default state directory: `k8s-cli` in `$XDG_DATA_HOME` or `~/.local/share`.
///
/// # Errors
/// [`Error::NoHomeDir`] if neither `XDG_DATA_HOME` nor `HOME` is set.
pub fn default_state_dir() -> Result<PathBuf, Error> {
    let variable = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    // The specification says to ignore relative paths: <https://specifications.freedesktop.org/basedir-spec/latest/>.
    let data = variable("XDG_DATA_HOME").filter(|path| path.is_absolute());
    let data = data.or_else(|| variable("HOME").map(|home| home.join(".local/share")));
    data.map(|data| data.join("k8s-cli")).ok_or(Error::NoHomeDir)
}

impl Engine {
    /// Starts the engine with the objects in the state directory, and takes over the containers that still run.
    ///
    /// # Errors
    /// [`Error::InUse`] if another server uses the state directory, and [`Error::NotStateDir`] if it contains other files.
    pub async fn start(options: EngineOptions) -> Result<Self, Error> {
        let state_dir = state_dir::claim_state_dir(&options.state_dir)?;
        let unusable = |source: io::Error| Error::StateDir {
            path: state_dir.clone(),
            source,
        };
        let stopping = CancellationToken::new();
        let store = Arc::new(Store::open(&state_dir, Box::new(ControllerManager::default()))?);
        let config = KubeletConfig {
            state_dir: state_dir.clone(),
            log_limit: options.log_limit,
            total_log_limit: options.total_log_limit,
        };
        let kubelet = Kubelet::new(Arc::clone(&store), config, stopping.clone()).map_err(unusable)?;
        let kubelet = Arc::new(kubelet);
        let failed = |error: StatusError| unusable(io::Error::other(error.message));
        let bootstrap = || {
            store.write(Durability::Disk, |transaction| {
                bootstrap(transaction, &node_name(), |transaction, old| {
                    build_node(old, transaction.now, transaction.random)
                })
            })
        };
        if bootstrap().await.is_err() {
            // On a full disk, the first transaction can fail, but it makes the store release the reserve for the second
            // one.
            bootstrap().await.map_err(failed)?;
        }
        kubelet.start().await.map_err(failed)?;
        let api = Api {
            store: Arc::clone(&store),
            kubelet: Some(Arc::clone(&kubelet)),
            clock: Clock::system(),
            stopping: stopping.clone(),
        };
        Ok(Self {
            store,
            kubelet,
            api,
            state_dir,
            stopping,
        })
    }

    /// Returns the API as a service for clients in this process.
    pub fn router(&self) -> Router {
        router(self.api.clone())
    }

    /// Returns the state directory, with symbolic links resolved.
    #[must_use]
    pub fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// Serves the API on a loopback address, and writes a kubeconfig with the credentials for it. Returns the path of
    /// the kubeconfig and the bound address.
    ///
    /// # Errors
    /// [`Error::Listen`] if the address is not a loopback address or is already in use.
    pub async fn listen(&self, address: SocketAddr) -> Result<(PathBuf, SocketAddr), Error> {
        let credentials = kubectl::Credentials::load_or_create(&self.state_dir)?;
        let address = kubectl::listen(address, &credentials, self.router(), self.stopping.clone()).await?;
        let path = self.state_dir.join("kubeconfig");
        credentials
            .write_kubeconfig(&path, address)
            .map_err(|source| Error::StateDir {
                path: path.clone(),
                source,
            })?;
        Ok((path, address))
    }

    /// Stops the engine. Containers keep running, and the next engine takes them over.
    pub async fn stop(&self) {
        self.stopping.cancel();
        self.kubelet.wait_until_stopped().await;
        self.store.close();
    }
}
