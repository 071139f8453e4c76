//! The engine without its kubelet, in memory and on any clock, for simulations.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use clock::Clock;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::api::{Api, router};
use crate::controllers::Controllers;
use crate::error::Error;
use crate::furniture::furnish;
use crate::object::{Object, kind_of, time};
use crate::random::Random;
use crate::store::{Durability, Store, Transaction};

/// Name of the only cluster node.
const NODE: &str = "node";

/// Capacity of the only cluster node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// CPUs, as a Kubernetes quantity.
    pub cpus: String,
    /// Memory, as a Kubernetes quantity.
    pub memory: String,
    /// Maximum number of pods.
    pub pods: u32,
}

impl Default for Machine {
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
    pub async fn start(clock: Clock, seed: u64, machine: Machine) -> Result<Self, Error> {
        let store = Store::in_memory(Controllers::default(), clock, Random::seeded(seed))?;
        let api = Api {
            store: Arc::new(store),
            node: None,
            clock,
            stopping: CancellationToken::new(),
        };
        let furnished = api.store.write(Durability::Disk, true, move |transaction| {
            furnish(transaction, NODE, |transaction, _| node(transaction, &machine))
        });
        furnished.await.map_err(|refusal| Error::StateFolder {
            path: PathBuf::from(":memory:"),
            source: io::Error::other(refusal.message),
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

fn node(transaction: &mut Transaction<'_>, machine: &Machine) -> Object {
    let amounts = json!({"cpu": machine.cpus, "memory": machine.memory, "pods": machine.pods.to_string()});
    let now = time(transaction.now);
    Object::new(
        kind_of("nodes"),
        json!({
            "metadata": {
                "name": NODE, "uid": transaction.random.uid(), "creationTimestamp": now,
                "labels": {"kubernetes.io/hostname": NODE},
            },
            "spec": {},
            "status": {
                "capacity": amounts,
                "allocatable": amounts,
                "addresses": [{"type": "Hostname", "address": NODE}],
                "conditions": [{
                    "type": "Ready", "status": "True", "reason": "KubeletReady", "message": "",
                    "lastHeartbeatTime": now, "lastTransitionTime": now,
                }],
            },
        }),
    )
}
