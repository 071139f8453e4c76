//! The engine: its start, its parts, its end.

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

/// How an engine is set up.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where everything is kept; made if it is not there.
    pub state_folder: PathBuf,
    /// How large the log of one pod may grow, in bytes; then its oldest part goes.
    pub log_limit: u64,
    /// How large the logs of all pods may grow together, in bytes; then the oldest of them go.
    pub total_log_limit: u64,
}

/// A small Kubernetes.
pub struct Engine {
    store: Arc<Store>,
    node: Arc<Node>,
    api: Api,
    folder: PathBuf,
    stopping: CancellationToken,
}

/// Where the state is kept when nobody says otherwise: below the XDG data folder.
///
/// # Errors
/// There is no home folder.
pub fn state_folder() -> Result<PathBuf, Error> {
    let variable = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let data = variable("XDG_DATA_HOME").filter(|path| path.is_absolute());
    let data = data.or_else(|| variable("HOME").map(|home| home.join(".local/share")));
    data.map(|data| data.join("k8s-cli")).ok_or(Error::NoHome)
}

impl Engine {
    /// Starts, and finds what was there before: objects, and containers that run.
    ///
    /// # Errors
    /// The folder is in use, or cannot be used.
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
            // On a full disk the first transaction may only have shown that the reserve is needed.
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

    /// The API, for a client in this process.
    pub fn router(&self) -> Router {
        router(self.api.clone())
    }

    /// The folder with everything.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Serves the API at an address of this machine, to whoever has the kubeconfig that it writes; gives that file, and
    /// the address.
    ///
    /// # Errors
    /// The address is not of this machine alone, or is taken.
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

    /// Ends the engine. The containers run on, and the next one finds them.
    pub async fn stop(&self) {
        self.stopping.cancel();
        self.node.stopped().await;
        self.store.close();
    }
}
