//! The ports of a task, as its Jobs record them.

use std::collections::BTreeMap;

use super::identity::MAX_REASON;
use crate::labels;
use crate::manifest::PORT_PLACEHOLDER;

/// An upper bound on ports, because anybody can edit the annotation.
const MAX_PORTS: usize = 100;

/// The ports of the first node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskPorts {
    ports: Vec<u16>,
    /// The Service in front of them.
    service: Option<Box<str>>,
    /// The URL of each outside of the cluster, with a placeholder for its number.
    url: Option<Box<str>>,
}

impl TaskPorts {
    /// Reads the annotations of a Job. `None` if the task has no ports.
    pub(crate) fn from_annotations(annotations: &BTreeMap<String, String>) -> Option<Self> {
        let ports = annotations.get(labels::PORTS)?.split(',').take(MAX_PORTS);
        let text = |name: &str| {
            let text = annotations.get(name).filter(|text| text.len() <= MAX_REASON);
            text.map(|text| text.as_str().into())
        };
        Some(Self {
            ports: ports.filter_map(|port| port.parse().ok()).collect(),
            service: text(labels::PORT_SERVICE),
            url: text(labels::PORT_URL),
        })
    }

    /// The name of the Service in front of them.
    pub(crate) fn service(&self) -> Option<&str> {
        self.service.as_deref()
    }

    /// The addresses of each port: its URL, or that of the load balancer, once it has one, and the name in the cluster's
    /// DNS if there is a Service, or else the address of the pod, once it has one.
    pub(crate) fn endpoints(&self, namespace: &str, pod_ip: Option<&str>, outside: Option<&str>) -> Vec<String> {
        let inside = match &self.service {
            Some(service) => Some(format!("{service}.{namespace}.svc")),
            None => pod_ip.map(str::to_owned),
        };
        // An IPv6 address has brackets in front of a port.
        let outside = outside.map(|host| {
            if host.contains(':') {
                format!("[{host}]")
            } else {
                host.to_owned()
            }
        });
        let urls = self.url.iter().flat_map(|url| {
            let url_of = |port: &u16| url.replace(PORT_PLACEHOLDER, &port.to_string());
            self.ports.iter().map(url_of)
        });
        let hosts = outside.into_iter().chain(inside);
        urls.chain(hosts.flat_map(|host| self.ports.iter().map(move |port| format!("{host}:{port}"))))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::TaskPorts;
    use crate::labels;

    #[test]
    fn a_port_is_at_its_service_or_its_pod() {
        let mut annotations = BTreeMap::from([(labels::PORTS.to_owned(), "80,x,8080".to_owned())]);
        let at_pod = TaskPorts::from_annotations(&annotations).unwrap();
        assert_eq!(
            at_pod.endpoints("ml", Some("10.0.0.1"), None),
            ["10.0.0.1:80", "10.0.0.1:8080"]
        );
        assert!(at_pod.endpoints("ml", None, None).is_empty());
        annotations.insert(labels::PORT_SERVICE.to_owned(), "task-a-ports".to_owned());
        let at_service = TaskPorts::from_annotations(&annotations).unwrap();
        let inside = ["task-a-ports.ml.svc:80", "task-a-ports.ml.svc:8080"];
        assert_eq!(at_service.endpoints("ml", None, None), inside);
        let outside = at_service.endpoints("ml", None, Some("203.0.113.7"));
        assert_eq!(outside[..2], ["203.0.113.7:80", "203.0.113.7:8080"]);
        assert_eq!(outside[2..], inside);
        assert_eq!(
            at_service.endpoints("ml", None, Some("2001:db8::1"))[0],
            "[2001:db8::1]:80"
        );
        annotations.insert(
            labels::PORT_URL.to_owned(),
            "https://abc-{port}.apps.example.com".to_owned(),
        );
        let urls = TaskPorts::from_annotations(&annotations)
            .unwrap()
            .endpoints("ml", None, None);
        assert_eq!(
            urls[..2],
            ["https://abc-80.apps.example.com", "https://abc-8080.apps.example.com"]
        );
        assert_eq!(urls[2..], inside);
        assert_eq!(TaskPorts::from_annotations(&BTreeMap::new()), None);
    }
}
