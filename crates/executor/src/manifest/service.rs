//! The Service that gives each node of several a host name, where the cluster has DNS.

use std::collections::BTreeMap;

use super::Submission;
use crate::kubernetes::{OwnerReference, Service, ServiceSpec};
use crate::labels;

/// A headless Service: it has no address, and DNS gives `node-RANK.task-ID` the address of that node's pod
/// (<https://kubernetes.io/docs/concepts/services-networking/dns-pod-service/#pod-hostname-and-subdomain-field>).
///
/// A node is not ready before its setup has ended, but the others look for it in theirs.
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

/// The name of a Service begins with a letter; an identifier may not.
pub(super) fn service_name(submission: &Submission) -> String {
    format!("task-{}", submission.id)
}

/// The host name of a node.
pub(super) fn host_name(rank: u32) -> String {
    format!("node-{rank}")
}
