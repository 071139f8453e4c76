//! A pod as the node sees it.

use std::net::Ipv4Addr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, Volume};

use super::control_group::Limits;
use crate::object::Object;

/// What is to be run.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub uid: String,
    pub namespace: String,
    pub name: String,
    pub container: Container,
    pub volumes: Vec<Volume>,
    /// How long it may take to end, in seconds.
    pub grace: u32,
    pub hostname: String,
    /// The address that it was given before.
    pub address: Option<Ipv4Addr>,
    pub started: Option<Timestamp>,
}

/// What others want of a pod that runs.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Wish {
    /// When it must have ended, if it is being deleted.
    pub end_by: Option<Timestamp>,
    /// It may run only so many seconds.
    pub deadline: Option<i64>,
}

impl Plan {
    /// `None` for a pod without a container.
    pub fn read(object: &Object) -> Option<Self> {
        let pod: Pod = serde_json::from_value(object.value.clone()).ok()?;
        let spec = pod.spec?;
        let status = pod.status.unwrap_or_default();
        let name = pod.metadata.name.unwrap_or_default();
        Some(Self {
            uid: pod.metadata.uid.unwrap_or_default(),
            namespace: pod.metadata.namespace.unwrap_or_default(),
            container: spec.containers.into_iter().next()?,
            volumes: spec.volumes.unwrap_or_default(),
            grace: spec
                .termination_grace_period_seconds
                .and_then(|seconds| u32::try_from(seconds).ok())
                .unwrap_or(30),
            // A host name has 63 characters at most.
            hostname: spec.hostname.unwrap_or_else(|| name.chars().take(63).collect()),
            name,
            address: status.pod_ip.and_then(|text| text.parse().ok()),
            started: status.start_time.map(|time| time.0),
        })
    }

    /// What it may use.
    pub fn limits(&self) -> Limits {
        let resources = self.container.resources.clone().unwrap_or_default();
        let amount = |map: Option<
            std::collections::BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>,
        >,
                      name: &str| { quantity::nanos(&map?.get(name)?.0) };
        let bytes = amount(resources.limits, "memory").map(|nanos| nanos / quantity::NANO);
        let cpu = amount(resources.requests, "cpu").unwrap_or(0) * 1000 / quantity::NANO;
        Limits {
            memory: bytes.and_then(|bytes| u64::try_from(bytes).ok()),
            cpu_thousandths: u64::try_from(cpu).unwrap_or(0),
        }
    }
}

impl Wish {
    /// What the newest state of a pod asks for.
    pub fn read(object: &Object) -> Self {
        let metadata = &object.value["metadata"];
        let end: Option<Timestamp> = metadata["deletionTimestamp"]
            .as_str()
            .and_then(|text| text.parse().ok());
        // The time is cut to whole seconds; nobody's grace period is cut with it.
        let cut = i64::from(metadata["deletionGracePeriodSeconds"].as_i64() > Some(0));
        Self {
            end_by: end.map(|time| time + jiff::Span::new().seconds(cut)),
            deadline: object.value["spec"]["activeDeadlineSeconds"].as_i64(),
        }
    }
}
