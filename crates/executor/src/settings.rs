//! Settings of the operator that apply to all tasks of a namespace.

use std::path::PathBuf;
use std::time::Duration;

use archive::Archive;
use clock::Clock;
use task::TaskDefinition;

use crate::delivery::FileSource;
use crate::pod_config::AllowList;

/// The longest time after which a kubelet notices a change of a pod that it has just synced. It relists its containers
/// one second after the previous relist ended, and acts on nothing newer until then (`genericPlegRelistPeriod` in
/// `pkg/kubelet/kubelet.go` of kubernetes/kubernetes). The rest is for the relist itself.
pub const KUBELET_SYNC_DELAY: Duration = Duration::from_millis(1500);

/// The configuration of an executor.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The namespace of all tasks and volumes. Defaults to the client's namespace.
    pub namespace: Option<String>,
    /// Defaults for tasks that don't set these fields.
    pub defaults: Defaults,
    /// Settings for the pods of all tasks.
    pub pods: PodSettings,
    /// Whether cluster nodes are added for tasks that no present one can run.
    pub is_autoscaled: bool,
    /// Which PersistentVolumeClaims without a user a task may mount.
    pub shared_claims: SharedClaims,
    /// The longest time after which a node notices a change of its pod: [`KUBELET_SYNC_DELAY`] for kubelets, and zero
    /// for a node that is notified of every change.
    pub sync_delay: Duration,
    /// The time source.
    pub clock: Clock,
    /// Where the records and logs of tasks are kept. Without it, they are gone with the tasks.
    pub archive: Option<Archive>,
    /// Where the files of tasks come from. Without it, tasks have none.
    pub files: Option<FileSource>,
}

/// Defaults for tasks that don't set these fields.
#[derive(Debug, Clone, Copy, Default)]
pub struct Defaults {
    /// How long each node may run. Unlimited if unset.
    pub max_duration: Option<Duration>,
    /// How long the nodes may wait to be scheduled. Unlimited if unset.
    pub provision_timeout: Option<Duration>,
    /// How long a finished task is kept. If unset, until it is stopped.
    pub ttl_after_finished: Option<Duration>,
}

impl Defaults {
    /// How long the nodes of this task may wait to be scheduled.
    #[must_use]
    pub fn provision_timeout_of(&self, definition: &TaskDefinition) -> Option<Duration> {
        match definition.kubernetes.provision_timeout {
            Some(wanted) => wanted.duration(),
            None => self.provision_timeout,
        }
    }
}

/// Settings for the pods of all tasks.
#[derive(Debug, Clone, Default)]
pub struct PodSettings {
    /// The Pod Security Standard that the pods meet.
    pub security: PodSecurity,
    /// The image of tasks that don't set one.
    pub default_image: Option<String>,
    /// Which requests a task gets that sets none.
    pub default_requests: DefaultRequests,
    /// The fields of the pods that tasks may set, in addition to harmless ones.
    pub allowed_fields: AllowList,
    /// How the ports of tasks can be reached.
    pub ports: PortExposure,
    /// The service account whose token is mounted. If unset, no token is mounted.
    pub service_account: Option<String>,
    /// Whether containers see the home directory of this machine's user instead of one of their own.
    pub shares_home: bool,
    /// The program with which nodes copy from buckets, if there is one.
    pub helper: Option<HelperProgram>,
}

/// The program of ours in a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HelperProgram {
    /// An init container with this image copies it to a volume of the pod.
    Image(String),
    /// It is on this machine.
    Executable(PathBuf),
}

/// How the ports of tasks can be reached.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum PortExposure {
    /// From inside of the cluster, through a Service.
    #[default]
    ClusterIp,
    /// From outside, through a Service with a load balancer.
    LoadBalancer,
    /// From outside, through a Service and an Ingress.
    Ingress(PortIngress),
    /// At the address of the pod. For pods on this machine.
    PodAddress,
}

/// The Ingress of a task's ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortIngress {
    /// The domain below which each port has a host name. Its DNS leads all names to the ingress controller.
    pub domain: String,
    /// The `IngressClass`. The cluster's default if unset.
    pub class: Option<String>,
    /// The Secret with a certificate for all names below the domain. Without it, the ports are reached by HTTP.
    pub tls_secret: Option<String>,
}

/// The CPUs and memory that a task requests if it sets neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DefaultRequests {
    /// None. Its pods are the first to be evicted when a cluster node runs out of memory.
    #[default]
    None,
    /// As in SkyPilot: 2 CPUs and 2 GiB, or 4 CPUs and 16 GiB per GPU. With CPUs alone, 1 GiB per CPU.
    /// Source: `sky/clouds/kubernetes.py` of skypilot-org/skypilot.
    SkyPilot,
}

/// A Pod Security Standard (<https://kubernetes.io/docs/concepts/security/pod-security-standards/>).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PodSecurity {
    /// No restrictions beyond those of every pod of this server: it requests no privileges.
    #[default]
    Baseline,
    /// Runs as non-root, without privilege escalation or capabilities.
    Restricted,
}

/// Which PersistentVolumeClaims that belong to no user a task may mount by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SharedClaims {
    /// All in the namespace, as in the Python implementation.
    #[default]
    Any,
    /// Only those with the label `k8s-cli/shared=true`.
    Labeled,
}
