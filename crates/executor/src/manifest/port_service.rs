//! The Service that makes the ports of a task reachable.

use std::collections::BTreeMap;

use super::port_ingress;
use super::submission::Submission;
use crate::kubernetes::{IntOrString, OwnerReference, Service, ServicePort, ServiceSpec};
use crate::labels;
use crate::settings::PortExposure;

/// The Service for the ports of the first node, or `None` if the task has none, or needs no Service.
#[must_use]
pub fn port_service(submission: &Submission, owner: Option<&OwnerReference>) -> Option<Service> {
    let name = submission.port_service_name()?;
    let mut metadata = submission.metadata(name);
    metadata.owner_references = owner.map(|owner| vec![owner.clone()]);
    let kind = match submission.pods.ports {
        PortExposure::LoadBalancer => "LoadBalancer",
        PortExposure::ClusterIp | PortExposure::Ingress(_) | PortExposure::PodAddress => "ClusterIP",
    };
    let port = |port: &u16| ServicePort {
        name: Some(format!("port-{port}")),
        port: i32::from(*port),
        target_port: Some(IntOrString::Int(i32::from(*port))),
        ..ServicePort::default()
    };
    Some(Service {
        metadata,
        spec: Some(ServiceSpec {
            type_: Some(kind.to_owned()),
            selector: Some(BTreeMap::from([
                (labels::TASK_ID.to_owned(), submission.id.to_string()),
                (labels::NODE_INDEX.to_owned(), "0".to_owned()),
            ])),
            ports: Some(submission.definition.resources.ports.iter().map(port).collect()),
            ..ServiceSpec::default()
        }),
        status: None,
    })
}

/// The annotations of the Jobs that say where the ports are.
pub(super) fn annotations(submission: &Submission) -> Vec<(String, String)> {
    let ports: Vec<String> = submission
        .definition
        .resources
        .ports
        .iter()
        .map(u16::to_string)
        .collect();
    let ports = (!ports.is_empty()).then(|| (labels::PORTS.to_owned(), ports.join(",")));
    let service = submission
        .port_service_name()
        .map(|name| (labels::PORT_SERVICE.to_owned(), name));
    let url = port_ingress::url(submission).filter(|_| ports.is_some());
    let url = url.map(|url| (labels::PORT_URL.to_owned(), url));
    ports.into_iter().chain(service).chain(url).collect()
}
