//! The engine as a whole: startup, entry points, and shutdown.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use clock::Clock;
use tokio_util::sync::CancellationToken;

use crate::api::{Api, router};
use crate::controllers::Controllers;
use crate::error::Error;
use crate::furniture::furnish;
use crate::node::{Node, Settings, node_name, node_object};
use crate::refusal::Refusal;
use crate::store::{Durability, Store};
use crate::{kubeconfig, listen, state};

/// Settings of an [`Engine`].
#[derive(Debug, Clone)]
pub struct Options {
    /// State directory. Created if it doesn't exist.
    pub state_folder: PathBuf,
    /// Size limit for the log of one pod, in bytes. The oldest part is removed first.
    pub log_limit: u64,
    /// Size limit for the logs of all pods together, in bytes. The oldest parts are removed first.
    pub total_log_limit: u64,
}

/// A small Kubernetes: API server, controllers, and one node.
pub struct Engine {
    store: Arc<Store>,
    node: Arc<Node>,
    api: Api,
    folder: PathBuf,
    stopping: CancellationToken,
}

/// Returns the default state directory: `k8s-cli` in `$XDG_DATA_HOME` or `~/.local/share`.
///
/// # Errors
/// [`Error::NoHome`] if neither `XDG_DATA_HOME` nor `HOME` is set.
pub fn state_folder() -> Result<PathBuf, Error> {
    let variable = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    // The specification says to ignore relative paths: <https://specifications.freedesktop.org/basedir-spec/latest/>.
    let data = variable("XDG_DATA_HOME").filter(|path| path.is_absolute());
    let data = data.or_else(|| variable("HOME").map(|home| home.join(".local/share")));
    data.map(|data| data.join("k8s-cli")).ok_or(Error::NoHome)
}

impl Engine {
    /// Starts the engine with the objects in the state directory, and takes over the containers that still run.
    ///
    /// # Errors
    /// [`Error::InUse`] if another server uses the state directory, and [`Error::NotOurs`] if it contains other files.
    pub async fn start(options: Options) -> Result<Self, Error> {
        let folder = state::claim(&options.state_folder)?;
        let unusable = |source: io::Error| Error::StateFolder {
            path: folder.clone(),
            source,
        };
        let program = std::env::current_exe().map_err(unusable)?;
        let stopping = CancellationToken::new();
        let store = Arc::new(Store::open(&folder, Controllers::default())?);
        let settings = Settings {
            state: folder.clone(),
            log_limit: options.log_limit,
            total_log_limit: options.total_log_limit,
            program,
        };
        let node = Node::new(Arc::clone(&store), settings, stopping.clone()).map_err(unusable)?;
        let node = Arc::new(node);
        let failed = |refusal: Refusal| unusable(io::Error::other(refusal.message));
        let furnish = || {
            store.write(Durability::Disk, true, |transaction| {
                furnish(transaction, &node_name(), |transaction, old| {
                    node_object(old, transaction.now, transaction.random)
                })
            })
        };
        if furnish().await.is_err() {
            // On a full disk, the first transaction can fail, but it makes the store release the reserve for the second
            // one.
            furnish().await.map_err(failed)?;
        }
        node.start().await.map_err(failed)?;
        let api = Api {
            store: Arc::clone(&store),
            node: Some(Arc::clone(&node)),
            clock: Clock::system(),
            stopping: stopping.clone(),
        };
        Ok(Self {
            store,
            node,
            api,
            folder,
            stopping,
        })
    }

    /// Returns the API as a service for clients in this process.
    pub fn router(&self) -> Router {
        router(self.api.clone())
    }

    /// Returns the state directory, with symbolic links resolved.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Serves the API on a loopback address, and writes a kubeconfig with the credentials for it. Returns the path of
    /// the kubeconfig and the bound address.
    ///
    /// # Errors
    /// [`Error::Listen`] if the address is not a loopback address or is already in use.
    pub async fn listen(&self, address: SocketAddr) -> Result<(PathBuf, SocketAddr), Error> {
        let access = kubeconfig::Access::of(&self.folder)?;
        let address = listen::listen(address, &access, self.router(), self.stopping.clone()).await?;
        let path = self.folder.join("kubeconfig");
        access.write(&path, address).map_err(|source| Error::StateFolder {
            path: path.clone(),
            source,
        })?;
        Ok((path, address))
    }

    /// Stops the engine. Containers keep running, and the next engine takes them over.
    pub async fn stop(&self) {
        self.stopping.cancel();
        self.node.stopped().await;
        self.store.close();
    }
}
