//! Builds this machine as a `v1/Node`.

use std::fs;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::object::{Kind, Object, format_time};
use crate::random::Random;

/// Maximum number of pods, as the kubelet's default.
const MAX_PODS: u32 = 110;

/// Returns the name of the cluster node: the host name as a DNS label.
pub fn node_name() -> String {
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
pub fn build_node(old: Option<Object>, now: Timestamp, random: &mut Random) -> Object {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let amounts = json!({
        "cpu": cpus.to_string(),
        "memory": format!("{}Ki", memory_kibibytes()),
        "pods": MAX_PODS.to_string(),
    });
    let name = node_name();
    let now = format_time(now);
    let mut node = old.unwrap_or_else(|| {
        let mut node = Object::new(Kind::Node, json!({"spec": {}}));
        node.set("uid", random.uid());
        node.set("creationTimestamp", now.as_str());
        node
    });
    node.set("name", name.as_str());
    let mut labels: serde_json::Map<String, Value> = node.value["metadata"]["labels"]
        .as_object()
        .cloned()
        .unwrap_or_default();
    for (key, value) in [
        ("kubernetes.io/hostname", name.as_str()),
        ("kubernetes.io/os", std::env::consts::OS),
        ("kubernetes.io/arch", architecture()),
    ] {
        labels.insert(key.to_owned(), value.into());
    }
    node.set("labels", labels);
    let system = rustix::system::uname();
    node.value["status"] = json!({
        "capacity": amounts,
        "allocatable": amounts,
        "addresses": [
            {"type": "InternalIP", "address": "127.0.0.1"},
            {"type": "Hostname", "address": name},
        ],
        "conditions": [{
            "type": "Ready", "status": "True", "reason": "KubeletReady", "message": "the server runs pods on this machine",
            "lastHeartbeatTime": now, "lastTransitionTime": now,
        }],
        "nodeInfo": {
            "machineID": "", "systemUUID": "", "bootID": "",
            "kernelVersion": system.release().to_string_lossy(),
            "osImage": os_name(),
            "containerRuntimeVersion": format!("k8s-cli://{}", env!("CARGO_PKG_VERSION")),
            "kubeletVersion": format!("v1.37.0+k8s-cli-{}", env!("CARGO_PKG_VERSION")),
            "kubeProxyVersion": "",
            "operatingSystem": std::env::consts::OS,
            "architecture": architecture(),
        },
    });
    node
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
