//! The `/etc/hosts` of a pod: the names of this machine, the pod's own, and its host aliases.

use std::fmt::Write;
use std::fs::{self, Permissions};
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;

use k8s_openapi::api::core::v1::HostAlias;

use super::pod_config::PodConfig;
use crate::container::ContainerDir;

/// The first line by which a program knows that the file is the pod's, and not the machine's. The kubelet writes it for
/// pods in the network of the machine, as all of them are here.
/// Source: `managedHostsHeaderWithHostNetwork` in `pkg/kubelet/kubelet_pods.go` of kubernetes/kubernetes.
const HEADER: &str = "# Kubernetes-managed hosts file (host network).";

/// Writes the file of a pod with this address.
pub(super) fn write(dir: &ContainerDir, pod_config: &PodConfig, ip: Ipv4Addr) -> io::Result<()> {
    // A machine may have no such file.
    let machine = fs::read_to_string("/etc/hosts").unwrap_or_default();
    let text = hosts_file(&machine, ip, &pod_config.hostname, &pod_config.host_aliases);
    fs::write(dir.hosts(), text)?;
    // Programs may run as other users than the server.
    fs::set_permissions(dir.hosts(), Permissions::from_mode(0o644))
}

/// Puts the pod's own names first, so that they win over those of the machine.
fn hosts_file(machine: &str, ip: Ipv4Addr, hostname: &str, aliases: &[HostAlias]) -> String {
    let mut text = format!("{HEADER}\n{ip}\t{hostname}\n{machine}");
    if !text.ends_with('\n') {
        text.push('\n');
    }
    for alias in aliases {
        let names = alias.hostnames.iter().flatten();
        let names: String = names.map(|name| format!("\t{name}")).collect();
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}{names}", alias.ip);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use k8s_openapi::api::core::v1::HostAlias;

    use super::hosts_file;

    #[test]
    fn a_pod_has_its_own_name_those_of_the_machine_and_its_aliases() {
        let aliases = [HostAlias {
            ip: "10.0.0.9".to_owned(),
            hostnames: Some(vec!["data".to_owned(), "data.lab".to_owned()]),
        }];
        let ip = Ipv4Addr::new(127, 1, 2, 3);
        assert_eq!(
            hosts_file("127.0.0.1 localhost", ip, "node-1", &aliases),
            "# Kubernetes-managed hosts file (host network).\n127.1.2.3\tnode-1\n127.0.0.1 localhost\n10.0.0.9\tdata\tdata.lab\n"
        );
        assert!(hosts_file("", ip, "a", &[]).ends_with("127.1.2.3\ta\n"));
    }
}
