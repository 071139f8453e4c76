//! Defaults and validation of Services. They forward no traffic: on one machine, pods reach each other directly.

use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;

use super::candidate::Candidate;
use crate::status_error::StatusError;

/// `v1/Service`.
pub(super) fn prepare(candidate: Candidate<'_>) -> Result<Value, StatusError> {
    candidate.prepare_as::<Service>(
        |service, old| {
            let spec = service.spec.get_or_insert_default();
            set_defaults(spec, old.and_then(|old| old.spec.as_ref()));
        },
        |service, _, errors| {
            let spec = service.spec.clone().unwrap_or_default();
            let headless = spec.cluster_ip.as_deref() == Some("None");
            let ports = spec.ports.unwrap_or_default();
            if ports.is_empty() && !headless {
                errors.required("spec.ports", "");
            }
            for (index, port) in ports.iter().enumerate() {
                if !(1..=65535).contains(&port.port) {
                    let why = "must be between 1 and 65535, inclusive";
                    errors.invalid(format!("spec.ports[{index}].port"), port.port, why);
                }
                if let Some(IntOrString::Int(target)) = &port.target_port
                    && !(1..=65535).contains(target)
                {
                    let why = "must be between 1 and 65535, inclusive";
                    errors.invalid(format!("spec.ports[{index}].targetPort"), *target, why);
                }
                if ports.len() > 1 && port.name.is_none() {
                    errors.required(format!("spec.ports[{index}].name"), "");
                }
            }
            let known = ["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"];
            let kind = spec.type_.unwrap_or_default();
            if !known.contains(&kind.as_str()) {
                errors.unsupported(
                    "spec.type",
                    &kind,
                    &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"],
                );
            }
        },
    )
}

fn set_defaults(spec: &mut ServiceSpec, old: Option<&ServiceSpec>) {
    spec.type_.get_or_insert_with(|| "ClusterIP".to_owned());
    spec.session_affinity.get_or_insert_with(|| "None".to_owned());
    spec.internal_traffic_policy.get_or_insert_with(|| "Cluster".to_owned());
    if spec.cluster_ip.as_deref().unwrap_or_default().is_empty() {
        let kept = old.and_then(|old| old.cluster_ip.clone());
        spec.cluster_ip = Some(kept.unwrap_or_else(|| {
            // Never routed: it only has to look like an address of Kubernetes' usual service range.
            let [high, low] = fastrand::u16(1..).to_be_bytes();
            format!("10.96.{high}.{low}")
        }));
    }
    for port in spec.ports.iter_mut().flatten() {
        port.protocol.get_or_insert_with(|| "TCP".to_owned());
        let number = port.port;
        port.target_port.get_or_insert(IntOrString::Int(number));
    }
}
