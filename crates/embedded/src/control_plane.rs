//! The engine without its kubelet, in memory and on any clock, for simulations.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use clock::Clock;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::api::{Api, router};
use crate::bootstrap::bootstrap;
use crate::controllers::ControllerManager;
use crate::error::Error;
use crate::object::{Kind, Object, format_time};
use crate::random::Random;
use crate::store::{Durability, Store, Transaction};

/// Name of the only cluster node.
const NODE_NAME: &str = "node";

/// Capacity of the only cluster node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeCapacity {
    /// CPUs, as a Kubernetes quantity.
    pub cpus: String,
    /// Memory, as a Kubernetes quantity.
    pub memory: String,
    /// Maximum number of pods.
    pub pods: u32,
}

impl Default for NodeCapacity {
    fn default() -> Self {
        Self {
            cpus: "4".to_owned(),
            memory: "16Gi".to_owned(),
            pods: 110,
        }
    }
}

/// A Kubernetes without a kubelet: it binds pods to a cluster node, and the simulation plays the kubelet by writing
/// their status. It uses no threads, no files, and no time but the clock's, so that the same requests at the same times
/// always get the same responses.
pub struct ControlPlane {
    api: Api,
}

impl ControlPlane {
    /// Starts with the default objects of a cluster, and one cluster node. `seed` determines the UIDs and generated
    /// names of all objects.
    pub async fn start(clock: Clock, seed: u64, capacity: NodeCapacity) -> Result<Self, Error> {
        let store = Store::in_memory(Box::new(ControllerManager::default()), clock, Random::seeded(seed))?;
        let api = Api {
            store: Arc::new(store),
            kubelet: None,
            clock,
            stopping: CancellationToken::new(),
        };
        let bootstrapped = api.store.write(Durability::Disk, move |transaction| {
            bootstrap(transaction, NODE_NAME, |transaction, _| {
                build_node(transaction, &capacity)
            })
        });
        bootstrapped.await.map_err(|error| Error::StateDir {
            path: PathBuf::from(":memory:"),
            source: io::Error::other(error.message),
        })?;
        Ok(Self { api })
    }

    /// Returns the API, for clients in this process.
    pub fn router(&self) -> Router {
        router(self.api.clone())
    }

    /// Ends all watches and stops the controllers.
    pub fn stop(&self) {
        self.api.stopping.cancel();
        self.api.store.close();
    }
}

fn build_node(transaction: &mut Transaction<'_>, capacity: &NodeCapacity) -> Object {
    let amounts = json!({"cpu": capacity.cpus, "memory": capacity.memory, "pods": capacity.pods.to_string()});
    let now = format_time(transaction.now);
    Object::new(
        Kind::Node,
        json!({
            "metadata": {
                "name": NODE_NAME, "uid": transaction.random.uid(), "creationTimestamp": now,
                "labels": {"kubernetes.io/hostname": NODE_NAME},
            },
            "spec": {},
            "status": {
                "capacity": amounts,
                "allocatable": amounts,
                "addresses": [{"type": "Hostname", "address": NODE_NAME}],
                "conditions": [{
                    "type": "Ready", "status": "True", "reason": "KubeletReady", "message": "",
                    "lastHeartbeatTime": now, "lastTransitionTime": now,
                }],
            },
        }),
    )
}
