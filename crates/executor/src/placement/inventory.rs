//! The cluster nodes, listed at most once per some seconds.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::machine::Machine;
use crate::error::Error;
use crate::kubernetes::ApiClient;

/// How long a list is used. A submit should neither list thousands of nodes each time nor miss a new node for long.
const MAX_AGE: Duration = Duration::from_secs(10);

/// The last list of cluster nodes.
#[derive(Debug, Default)]
pub(crate) struct Inventory(Mutex<Option<(Instant, Machines)>>);

/// The cluster nodes, or `None` if the server may not list them.
type Machines = Option<Arc<[Machine]>>;

impl Inventory {
    /// The cluster nodes. Concurrent callers share one list.
    ///
    /// # Errors
    /// Kubernetes does not answer.
    pub(crate) async fn machines(&self, client: &ApiClient) -> Result<Machines, Error> {
        let mut last = self.0.lock().await;
        if let Some((at, machines)) = &*last
            && at.elapsed() < MAX_AGE
        {
            return Ok(machines.clone());
        }
        let machines: Machines = match client.nodes().await {
            Ok(nodes) => Some(nodes.into_iter().map(Machine::from_resource).collect()),
            Err(error) if error.is_forbidden() => None,
            Err(error) => return Err(error),
        };
        *last = Some((Instant::now(), machines.clone()));
        Ok(machines)
    }
}
