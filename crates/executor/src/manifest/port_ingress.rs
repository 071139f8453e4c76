//! The Ingress that gives each port of a task a host name outside of the cluster.

use super::submission::Submission;
use crate::kubernetes::{
    HTTPIngressPath, HTTPIngressRuleValue, Ingress, IngressBackend, IngressRule, IngressServiceBackend, IngressSpec,
    IngressTLS, OwnerReference, ServiceBackendPort,
};
use crate::settings::{PortExposure, PortIngress};

/// Where an annotation has the number of the port.
pub(crate) const PORT_PLACEHOLDER: &str = "{port}";

/// The Ingress in front of the Service for the ports of the first node, or `None` if the task has no ports, or the operator
/// exposes them in another way.
///
/// Each port has a host name, and not a path: programs like Jupyter and `TensorBoard` expect to be at `/`, and rewriting
/// paths is different in each ingress controller.
#[must_use]
pub fn port_ingress(submission: &Submission, owner: Option<&OwnerReference>) -> Option<Ingress> {
    let PortExposure::Ingress(settings) = &submission.pods.ports else {
        return None;
    };
    let service = submission.port_service_name()?;
    let hosts = submission
        .definition
        .resources
        .ports
        .iter()
        .map(|port| (*port, host(submission, settings, &port.to_string())));
    let hosts: Vec<(u16, String)> = hosts.collect();
    let mut metadata = submission.metadata(service.clone());
    metadata.owner_references = owner.map(|owner| vec![owner.clone()]);
    let tls = settings.tls_secret.clone().map(|secret| IngressTLS {
        hosts: Some(hosts.iter().map(|(_, host)| host.clone()).collect()),
        secret_name: Some(secret),
    });
    Some(Ingress {
        metadata,
        spec: Some(IngressSpec {
            ingress_class_name: settings.class.clone(),
            rules: Some(
                hosts
                    .into_iter()
                    .map(|(port, host)| rule(&service, port, host))
                    .collect(),
            ),
            tls: tls.map(|tls| vec![tls]),
            ..IngressSpec::default()
        }),
        status: None,
    })
}

/// The URL of each port, with a placeholder for its number.
pub(super) fn url(submission: &Submission) -> Option<String> {
    let PortExposure::Ingress(settings) = &submission.pods.ports else {
        return None;
    };
    let scheme = if settings.tls_secret.is_some() { "https" } else { "http" };
    Some(format!("{scheme}://{}", host(submission, settings, PORT_PLACEHOLDER)))
}

fn host(submission: &Submission, settings: &PortIngress, port: &str) -> String {
    format!("{}-{port}.{}", submission.id, settings.domain)
}

fn rule(service: &str, port: u16, host: String) -> IngressRule {
    let backend = IngressServiceBackend {
        name: service.to_owned(),
        port: Some(ServiceBackendPort {
            name: None,
            number: Some(i32::from(port)),
        }),
    };
    let path = HTTPIngressPath {
        backend: IngressBackend {
            service: Some(backend),
            resource: None,
        },
        path: Some("/".to_owned()),
        path_type: "Prefix".to_owned(),
    };
    IngressRule {
        host: Some(host),
        http: Some(HTTPIngressRuleValue { paths: vec![path] }),
    }
}
