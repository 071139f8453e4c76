//! The addresses that load balancers give to the ports of tasks.

use std::collections::HashMap;
use std::sync::Arc;

use super::identity::{Identity, InvalidObject, TaskKey};
use crate::kubernetes::Service;
use crate::labels;

/// The longest name of a host in DNS.
const MAX_HOST: usize = 253;

/// The Service of a task's ports, with its address outside of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LoadBalancer {
    name: Box<str>,
    uid: String,
    key: Arc<TaskKey>,
    /// An IP address or a host name; `None` until there is one, and for a Service of another type.
    address: Option<Box<str>>,
}

/// The load balancers by the name of their Service.
#[derive(Debug, Default)]
pub(super) struct LoadBalancers(HashMap<Box<str>, LoadBalancer>);

impl LoadBalancer {
    /// Reads a Service. Fails for one that this program could not have created.
    pub(crate) fn from_resource(service: &Service) -> Result<Self, InvalidObject> {
        let identity = Identity::from_metadata(&service.metadata, labels::TASK_ID, labels::TASK_NAME)?;
        Ok(Self {
            name: identity.object.into(),
            uid: identity.uid.to_owned(),
            key: Arc::new(identity.key()),
            address: address(service),
        })
    }
}

/// The first address of a load balancer.
fn address(service: &Service) -> Option<Box<str>> {
    let ingress = service.status.as_ref()?.load_balancer.as_ref()?.ingress.as_ref()?;
    let address = ingress
        .iter()
        .find_map(|ingress| ingress.ip.as_ref().or(ingress.hostname.as_ref()))?;
    (!address.is_empty() && address.len() <= MAX_HOST).then(|| address.as_str().into())
}

impl LoadBalancers {
    /// Adds or replaces a Service. Returns the task that this changes.
    pub(crate) fn insert(&mut self, balancer: LoadBalancer) -> Vec<Arc<TaskKey>> {
        let key = Arc::clone(&balancer.key);
        self.0.insert(balancer.name.clone(), balancer);
        vec![key]
    }

    /// Removes the Services whose uid is not kept. Returns the tasks that this changes.
    pub(crate) fn retain(&mut self, is_kept: impl Fn(&String) -> bool) -> Vec<Arc<TaskKey>> {
        let removed = self.0.extract_if(|_, balancer| !is_kept(&balancer.uid));
        removed.map(|(_, balancer)| balancer.key).collect()
    }

    /// The address of the Service with this name, if it belongs to the task.
    pub(crate) fn address(&self, service: &str, key: &TaskKey) -> Option<&str> {
        let balancer = self.0.get(service).filter(|balancer| *balancer.key == *key)?;
        balancer.address.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{LoadBalancer, LoadBalancers};
    use crate::kubernetes::Service;
    use crate::labels;

    fn balancer(status: &Value) -> LoadBalancer {
        let service: Service = serde_json::from_value(json!({
            "metadata": {
                "name": "task-aaaa1111-ports", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z",
                "labels": {labels::TASK_ID: "aaaa1111", labels::USERNAME: "alice"},
            },
            "status": status,
        }))
        .unwrap();
        LoadBalancer::from_resource(&service).unwrap()
    }

    #[test]
    fn the_address_is_an_ip_or_a_host_name() {
        let address = |ingress: Value| balancer(&json!({"loadBalancer": {"ingress": ingress}})).address;
        assert_eq!(address(json!([{"ip": "203.0.113.7"}])).as_deref(), Some("203.0.113.7"));
        assert_eq!(
            address(json!([{}, {"hostname": "lb.example.com"}])).as_deref(),
            Some("lb.example.com")
        );
        for none in [json!([]), json!([{"ip": ""}]), json!([{"hostname": "x".repeat(300)}])] {
            assert_eq!(address(none), None);
        }
        assert_eq!(balancer(&json!({"loadBalancer": {}})).address, None);
    }

    #[test]
    fn a_service_that_belongs_to_another_task_is_not_an_address() {
        let ours = balancer(&json!({"loadBalancer": {"ingress": [{"ip": "203.0.113.7"}]}}));
        let (name, key) = (ours.name.clone(), ours.key.clone());
        let balancers = LoadBalancers([(name.clone(), ours)].into());
        assert_eq!(balancers.address(&name, &key), Some("203.0.113.7"));
        let mut other = (*key).clone();
        other.submission = Some("other".into());
        assert_eq!(balancers.address(&name, &other), None);
        assert_eq!(balancers.address("another", &key), None);
    }
}
