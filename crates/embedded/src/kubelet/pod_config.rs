//! A pod as the kubelet sees it: what to run, and when to stop it.

use std::net::Ipv4Addr;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, ContainerState, HostAlias, Pod, PodSpec, Volume};
use serde::Deserialize;

use super::cgroups::CgroupLimits;
use super::restart_policy::RestartPolicy;
use crate::object::{Object, add_seconds};

/// What to run.
#[derive(Debug, Clone)]
pub(super) struct PodConfig {
    pub uid: String,
    pub namespace: String,
    pub name: String,
    pub container: Container,
    pub volumes: Vec<Volume>,
    /// Grace period, in seconds.
    pub grace_seconds: u32,
    pub hostname: String,
    pub host_aliases: Vec<HostAlias>,
    /// Address in the pod's status, assigned by an earlier server.
    pub ip: Option<Ipv4Addr>,
    pub started: Option<Timestamp>,
    pub restart_policy: RestartPolicy,
    /// How often the container was restarted, and how it ended the last time.
    pub restarts: u32,
    pub last_state: ContainerState,
}

/// What the API demands of a running pod.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct DesiredState {
    /// When the grace period ends, if the pod is being deleted.
    pub deletion: Option<Deadline>,
    /// Maximum run time, in seconds.
    pub active_deadline: Option<i64>,
}

/// A time on the wall clock. `max_wait` limits how far away it is, because the clock may have been set since it was
/// written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Deadline {
    pub at: Timestamp,
    pub max_wait: Duration,
}

impl Deadline {
    /// Returns the remaining time.
    pub(crate) fn remaining(self) -> Duration {
        let remaining = Duration::try_from(self.at - Timestamp::now());
        remaining.unwrap_or_default().min(self.max_wait)
    }
}

/// Converts seconds. Negative numbers become zero.
pub(super) fn seconds(number: i64) -> Duration {
    Duration::from_secs(u64::try_from(number).unwrap_or(0))
}

impl PodConfig {
    /// Returns `None` for a pod without a container.
    pub(crate) fn from_pod(object: &Object) -> Option<Self> {
        let pod = Pod::deserialize(object.value()).ok()?;
        let spec = pod.spec?;
        let status = pod.status.unwrap_or_default();
        let name = pod.metadata.name.unwrap_or_default();
        let container = status
            .container_statuses
            .into_iter()
            .flatten()
            .next()
            .unwrap_or_default();
        Some(Self {
            uid: pod.metadata.uid.unwrap_or_default(),
            namespace: pod.metadata.namespace.unwrap_or_default(),
            container: spec.containers.into_iter().next()?,
            volumes: spec.volumes.unwrap_or_default(),
            grace_seconds: spec
                .termination_grace_period_seconds
                .and_then(|seconds| u32::try_from(seconds).ok())
                .unwrap_or(30),
            // The kubelet, too, truncates host names to 63 characters.
            hostname: spec.hostname.unwrap_or_else(|| name.chars().take(63).collect()),
            host_aliases: spec.host_aliases.unwrap_or_default(),
            name,
            restart_policy: RestartPolicy::parse(spec.restart_policy.as_deref()),
            restarts: u32::try_from(container.restart_count).unwrap_or(0),
            last_state: container.last_state.unwrap_or_default(),
            ip: status.pod_ip.and_then(|text| text.parse().ok()),
            started: status.start_time.map(|time| time.0),
        })
    }

    /// Returns the resources of the container.
    pub(crate) fn cgroup_limits(&self) -> CgroupLimits {
        let resources = self.container.resources.clone().unwrap_or_default();
        let amount = |map: Option<
            std::collections::BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>,
        >,
                      name: &str| { Some(quantity::Quantity::parse(&map?.get(name)?.0)?.nanos()) };
        let bytes = amount(resources.limits, "memory").map(|nanos| nanos / quantity::NANOS_PER_UNIT);
        let cpu = amount(resources.requests, "cpu").unwrap_or(0) * 1000 / quantity::NANOS_PER_UNIT;
        CgroupLimits {
            memory: bytes.and_then(|bytes| u64::try_from(bytes).ok()),
            cpu_millis: u64::try_from(cpu).unwrap_or(0),
        }
    }
}

impl DesiredState {
    /// Reads what the newest state of a pod demands.
    pub(crate) fn from_pod(object: &Object) -> Self {
        let deletion: Option<Timestamp> = object.metadata_str("deletionTimestamp").parse().ok();
        let grace_seconds = object.deletion_grace_period();
        // `deletionTimestamp` is truncated to seconds. The extra second keeps that from shortening the grace period.
        let cut = i64::from(grace_seconds > 0);
        Self {
            deletion: deletion.map(|time| Deadline {
                at: add_seconds(time, cut),
                max_wait: seconds(grace_seconds.saturating_add(cut)),
            }),
            active_deadline: object
                .spec_without::<PodSpec>("containers")
                .ok()
                .and_then(|spec| spec.active_deadline_seconds),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::{Timestamp, ToSpan};

    use super::Deadline;

    #[test]
    fn a_clock_that_was_set_back_gives_nobody_more_time_than_was_said() {
        let max_wait = Duration::from_secs(30);
        let limit = |at| Deadline { at, max_wait }.remaining();
        assert_eq!(limit(Timestamp::now() + 5.hours()), max_wait);
        assert_eq!(limit(Timestamp::now() - 5.hours()), Duration::ZERO);
        let remaining = limit(Timestamp::now() + 10.seconds());
        assert!(
            remaining > Duration::from_secs(8) && remaining <= Duration::from_secs(10),
            "{remaining:?}"
        );
    }
}
