//! Builds this machine as a `v1/Node`.

use std::collections::BTreeMap;
use std::fs;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeAddress, NodeCondition, NodeSpec, NodeStatus, NodeSystemInfo};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

use crate::object::Object;
use crate::random::Random;

/// Maximum number of pods, as the kubelet's default.
const MAX_PODS: u32 = 110;

/// Returns the name of the cluster node: the host name as a DNS label.
pub(crate) fn node_name() -> String {
    let system = rustix::system::uname();
    let text = system.nodename().to_string_lossy().to_lowercase();
    let clean: String = text
        .chars()
        .map(|one| if one.is_ascii_alphanumeric() { one } else { '-' })
        .collect();
    match clean.trim_matches('-') {
        "" => "localhost".to_owned(),
        name => name.chars().take(63).collect(),
    }
}

/// Builds the Node of this machine from its last known state `old`. What users have set on it is kept.
pub(crate) fn build_node(old: Option<Object>, now: Timestamp, random: &mut Random) -> serde_json::Result<Object> {
    let name = node_name();
    let mut node = match old {
        Some(node) => node,
        None => Object::encode(&Node {
            metadata: ObjectMeta {
                uid: Some(random.uid()),
                creation_timestamp: Some(Time(now)),
                ..ObjectMeta::default()
            },
            spec: Some(NodeSpec::default()),
            status: None,
        })?,
    };
    let mut labels = node.labels();
    labels.extend([
        ("kubernetes.io/hostname", name.as_str()),
        ("kubernetes.io/os", std::env::consts::OS),
        ("kubernetes.io/arch", architecture()),
    ]);
    let labels = serde_json::to_value(labels)?;
    node.set("name", name.as_str());
    node.set("labels", labels);
    node.set_status(&node_status(name, now))?;
    Ok(node)
}

fn node_status(name: String, now: Timestamp) -> NodeStatus {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let amounts: BTreeMap<String, Quantity> = [
        ("cpu", cpus.to_string()),
        ("memory", format!("{}Ki", memory_kibibytes())),
        ("pods", MAX_PODS.to_string()),
    ]
    .map(|(name, amount)| (name.to_owned(), Quantity(amount)))
    .into();
    let address = |type_: &str, address: String| NodeAddress {
        type_: type_.to_owned(),
        address,
    };
    let system = rustix::system::uname();
    let version = env!("CARGO_PKG_VERSION");
    NodeStatus {
        capacity: Some(amounts.clone()),
        allocatable: Some(amounts),
        addresses: Some(vec![
            address("InternalIP", "127.0.0.1".to_owned()),
            address("Hostname", name),
        ]),
        conditions: Some(vec![ready_condition("the server runs pods on this machine", now)]),
        node_info: Some(NodeSystemInfo {
            kernel_version: system.release().to_string_lossy().into_owned(),
            os_image: os_name(),
            container_runtime_version: format!("k8s-cli://{version}"),
            kubelet_version: format!("v1.37.0+k8s-cli-{version}"),
            operating_system: std::env::consts::OS.to_owned(),
            architecture: architecture().to_owned(),
            ..NodeSystemInfo::default()
        }),
        ..NodeStatus::default()
    }
}

/// The condition of a cluster node that can run pods.
pub(crate) fn ready_condition(message: &str, now: Timestamp) -> NodeCondition {
    NodeCondition {
        type_: "Ready".to_owned(),
        status: "True".to_owned(),
        reason: Some("KubeletReady".to_owned()),
        message: Some(message.to_owned()),
        last_heartbeat_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    }
}

/// Returns Kubernetes' name for the CPU architecture.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(target_os = "linux")]
fn memory_kibibytes() -> u64 {
    rustix::system::sysinfo().totalram as u64 * u64::from(rustix::system::sysinfo().mem_unit) / 1024
}

#[cfg(not(target_os = "linux"))]
fn memory_kibibytes() -> u64 {
    let output = std::process::Command::new("sysctl").args(["-n", "hw.memsize"]).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.ok().and_then(|text| text.parse::<u64>().ok()).unwrap_or(1 << 33) / 1024
}

fn os_name() -> String {
    let text = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map_or_else(
        || std::env::consts::OS.to_owned(),
        |name| name.trim_matches('"').to_owned(),
    )
}
