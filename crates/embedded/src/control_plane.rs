//! The engine without its kubelet, in memory and on any clock, for simulations.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use clock::Clock;
use k8s_openapi::api::core::v1::{Node, NodeAddress, NodeSpec, NodeStatus};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use tokio_util::sync::CancellationToken;

use crate::api::{Api, router};
use crate::bootstrap::bootstrap;
use crate::controllers::ControllerManager;
use crate::error::Error;
use crate::kubelet::ready_condition;
use crate::object::Object;
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

fn build_node(transaction: &mut Transaction<'_>, capacity: &NodeCapacity) -> serde_json::Result<Object> {
    let amounts: BTreeMap<String, Quantity> = [
        ("cpu", capacity.cpus.clone()),
        ("memory", capacity.memory.clone()),
        ("pods", capacity.pods.to_string()),
    ]
    .map(|(name, amount)| (name.to_owned(), Quantity(amount)))
    .into();
    let labels = [("kubernetes.io/hostname".to_owned(), NODE_NAME.to_owned())];
    Object::encode(&Node {
        metadata: ObjectMeta {
            name: Some(NODE_NAME.to_owned()),
            uid: Some(transaction.random.uid()),
            creation_timestamp: Some(Time(transaction.now)),
            labels: Some(labels.into()),
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec::default()),
        status: Some(NodeStatus {
            capacity: Some(amounts.clone()),
            allocatable: Some(amounts),
            addresses: Some(vec![NodeAddress {
                type_: "Hostname".to_owned(),
                address: NODE_NAME.to_owned(),
            }]),
            conditions: Some(vec![ready_condition("", transaction.now)]),
            ..NodeStatus::default()
        }),
    })
}
