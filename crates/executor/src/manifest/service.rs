//! The Service that gives the nodes of a gang host names, where the cluster has DNS.

use std::collections::BTreeMap;

use super::submission::Submission;
use crate::kubernetes::{OwnerReference, Service, ServiceSpec};
use crate::labels;

/// A headless Service: it has no address of its own, and DNS resolves `node-RANK.task-ID` to the pod of that node
/// (<https://kubernetes.io/docs/concepts/services-networking/dns-pod-service/#pod-hostname-and-subdomain-field>).
///
/// It publishes addresses of nodes that are not ready, because nodes look each other up during their setup, and are
/// ready only after it.
#[must_use]
pub fn service(submission: &Submission, owner: Option<&OwnerReference>) -> Service {
    let mut metadata = submission.metadata(service_name(submission));
    metadata.owner_references = owner.map(|owner| vec![owner.clone()]);
    Service {
        metadata,
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".to_owned()),
            publish_not_ready_addresses: Some(true),
            selector: Some(BTreeMap::from([(
                labels::TASK_ID.to_owned(),
                submission.id.to_string(),
            )])),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

/// The prefix is needed because the name of a Service must begin with a letter, which an ID may not.
pub(super) fn service_name(submission: &Submission) -> String {
    format!("task-{}", submission.id)
}

pub(super) fn host_name(rank: u32) -> String {
    format!("node-{rank}")
}
