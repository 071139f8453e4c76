//! API, store and controllers alone, in memory and on any clock: a Kubernetes for simulations, whose pods nobody runs.

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

/// The name of the one node.
const NODE: &str = "node";

/// What the one node has to give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Processors, as a quantity of Kubernetes.
    pub cpus: String,
    /// Memory, as a quantity of Kubernetes.
    pub memory: String,
    /// How many pods there is place for.
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

/// A Kubernetes without a kubelet: pods are given to a node, and what becomes of them there is told by whoever plays it. It uses no
/// thread, no file and no time but the clock's, so that the same requests at the same times always have the same answers.
pub struct ControlPlane {
    api: Api,
}

impl ControlPlane {
    /// Starts with what every cluster has, and one node. `seed` chooses the identities and generated names of its objects.
    ///
    /// # Errors
    /// `SQLite` does not work.
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

    /// The API, for a client in this process.
    pub fn router(&self) -> Router {
        router(self.api.clone())
    }

    /// Ends the watches and the controllers.
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
