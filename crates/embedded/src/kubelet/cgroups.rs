//! Memory, process, and CPU limits of pods through control groups, where this process may create them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Maximum number of processes and threads in a pod. It stops fork bombs, and data loaders stay far below it.
const MAX_PROCESSES: u32 = 16_384;

/// Resources of a pod.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct CgroupLimits {
    /// Memory limit, in bytes.
    pub memory: Option<u64>,
    /// CPU request, in thousandths of a CPU. Determines the pod's share when CPUs are scarce.
    pub cpu_millis: u64,
}

/// The control groups below which this process can create others.
#[derive(Debug, Clone)]
pub(super) enum Cgroups {
    /// Version 2, with one hierarchy: <https://docs.kernel.org/admin-guide/cgroup-v2.html>.
    V2(PathBuf),
    /// Version 1, with a hierarchy for each controller.
    V1 {
        memory: PathBuf,
        pids: PathBuf,
        cpu: PathBuf,
    },
    /// Unavailable: limits are not enforced.
    None,
}

impl Cgroups {
    /// Detects which version is available to this process.
    pub(crate) fn detect() -> Self {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let found = detect_v2(&own).or_else(|| detect_v1(&own)).unwrap_or(Self::None);
        match &found {
            Self::None => tracing::warn!(
                "cannot create control groups, so memory limits are not enforced; start the server with `systemd-run --user --scope -p Delegate=yes`, or as root"
            ),
            known => tracing::debug!(groups = ?known, "using control groups"),
        }
        found
    }

    /// Creates the groups of a pod. If that fails, the pod runs without limits.
    pub(crate) fn create(&self, uid: &str, limits: CgroupLimits) -> Vec<PathBuf> {
        let result = match self {
            Self::None => return Vec::new(),
            Self::V2(base) => create_v2(&base.join(uid), limits),
            Self::V1 { memory, pids, cpu } => create_v1(&memory.join(uid), &pids.join(uid), &cpu.join(uid), limits),
        };
        result.unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot create the control group of a pod; its limits are not enforced");
            Vec::new()
        })
    }

    /// Removes the groups of a pod, which must be empty.
    pub(crate) fn remove(&self, groups: &[PathBuf]) {
        for group in groups {
            match fs::remove_dir(group) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::debug!(group = %group.display(), %error, "cannot remove a control group");
                }
                _ => {}
            }
        }
    }
}

/// Returns this process's group. Lines of `/proc/self/cgroup` are `number:controllers:path`; version 2 has no
/// controllers.
fn own_path(own: &str, controller: &str) -> Option<String> {
    own.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        controllers
            .split(',')
            .any(|one| one == controller)
            .then(|| path.trim_start_matches('/').to_owned())
    })
}

fn detect_v2(own: &str) -> Option<Cgroups> {
    let root = Path::new("/sys/fs/cgroup");
    let controllers = fs::read_to_string(root.join("cgroup.controllers")).ok()?;
    if !controllers.split_whitespace().any(|one| one == "memory") {
        return None;
    }
    let base = root.join(own_path(own, "")?);
    // A group that contains processes cannot enforce limits on groups below it, so the server moves into a group of its
    // own: <https://docs.kernel.org/admin-guide/cgroup-v2.html#no-internal-process-constraint>.
    let (server, pods) = (base.join("k8s-cli-server"), base.join("k8s-cli-pods"));
    let delegated = (|| {
        fs::create_dir_all(&server)?;
        fs::create_dir_all(&pods)?;
        fs::write(server.join("cgroup.procs"), "0")?;
        fs::write(base.join("cgroup.subtree_control"), "+memory +pids +cpu")?;
        fs::write(pods.join("cgroup.subtree_control"), "+memory +pids +cpu")
    })();
    delegated.ok().map(|()| Cgroups::V2(pods))
}

fn detect_v1(own: &str) -> Option<Cgroups> {
    let base = |controller: &str| {
        let path = Path::new("/sys/fs/cgroup")
            .join(controller)
            .join(own_path(own, controller)?)
            .join("k8s-cli-pods");
        fs::create_dir_all(&path)
            .and_then(|()| check_writable(&path))
            .ok()
            .map(|()| path)
    };
    Some(Cgroups::V1 {
        memory: base("memory")?,
        pids: base("pids")?,
        cpu: base("cpu")?,
    })
}

/// Checks that groups can be created here: the directory may belong to another user.
fn check_writable(base: &Path) -> io::Result<()> {
    let group = base.join(format!("try-{}", std::process::id()));
    fs::create_dir(&group)?;
    fs::remove_dir(&group)
}

fn create_v2(group: &Path, limits: CgroupLimits) -> io::Result<Vec<PathBuf>> {
    fs::create_dir_all(group)?;
    fs::write(group.join("pids.max"), MAX_PROCESSES.to_string())?;
    if let Some(bytes) = limits.memory {
        fs::write(group.join("memory.max"), bytes.to_string())?;
        fs::write(group.join("memory.swap.max"), "0").or_else(ignore_missing)?;
        // Kill all processes of the container together, as the kubelet does.
        fs::write(group.join("memory.oom.group"), "1")?;
    }
    fs::write(group.join("cpu.weight"), cpu_weight(limits.cpu_millis).to_string())?;
    Ok(vec![group.to_owned()])
}

fn create_v1(memory: &Path, pids: &Path, cpu: &Path, limits: CgroupLimits) -> io::Result<Vec<PathBuf>> {
    for group in [memory, pids, cpu] {
        fs::create_dir_all(group)?;
    }
    fs::write(pids.join("pids.max"), MAX_PROCESSES.to_string())?;
    if let Some(bytes) = limits.memory {
        fs::write(memory.join("memory.limit_in_bytes"), bytes.to_string())?;
        fs::write(memory.join("memory.memsw.limit_in_bytes"), bytes.to_string()).or_else(ignore_missing)?;
    }
    fs::write(cpu.join("cpu.shares"), cpu_shares(limits.cpu_millis).to_string())?;
    Ok(vec![memory.to_owned(), pids.to_owned(), cpu.to_owned()])
}

/// Swap may not be accounted for on this machine.
fn ignore_missing(error: io::Error) -> io::Result<()> {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => Ok(()),
        _ => Err(error),
    }
}

/// CPU shares as the kubelet computes them: 1024 for each CPU, and at least 2.
fn cpu_shares(millis: u64) -> u64 {
    (millis * 1024 / 1000).clamp(2, 262_144)
}

/// Converts CPU shares to a weight for version 2:
/// <https://github.com/kubernetes/enhancements/tree/master/keps/sig-node/2254-cgroup-v2>.
fn cpu_weight(millis: u64) -> u64 {
    1 + (cpu_shares(millis) - 2) * 9999 / 262_142
}

#[cfg(test)]
mod tests {
    use super::{cpu_shares, cpu_weight, own_path};

    #[test]
    fn the_own_group_is_found_in_both_versions() {
        let text = "4:memory:/a/b\n3:cpu,cpuacct:/c\n0::/user.slice/x.scope\n";
        assert_eq!(own_path(text, "memory").unwrap(), "a/b");
        assert_eq!(own_path(text, "cpu").unwrap(), "c");
        assert_eq!(own_path(text, "").unwrap(), "user.slice/x.scope");
        assert_eq!(own_path(text, "pids"), None);
    }

    #[test]
    fn shares_are_those_of_the_kubelet() {
        assert_eq!((cpu_shares(0), cpu_shares(1000), cpu_shares(500)), (2, 1024, 512));
        assert_eq!((cpu_weight(0), cpu_weight(1000)), (1, 39));
    }
}
