//! The keys of `config`, and of what is in it.

use super::key::{Section, full, ignored, rejected, rejected_unless};
use crate::definition::ignored;

/// `config`.
pub const CONFIG: Section = Section {
    path: "config",
    summary: "Settings of a task.",
    keys: &[
        full(
            "kubernetes",
            "Kubernetes settings of the task.",
            &["{provision_timeout: 600}"],
        ),
        full(
            "hooks",
            "Bash scripts that each node runs, one after the other, before its processes receive SIGTERM.",
            &["[{run: ./save, timeout: 60}]"],
        ),
        ignored(
            "docker",
            "Settings of Docker.",
            &["{run_options: [--ipc=host]}"],
            "Kubernetes runs the containers",
            ignored::object,
        ),
        ignored(
            "nvidia_gpus",
            "Settings of NVIDIA GPUs.",
            &["{disable_ecc: true}"],
            "the operator of the cluster sets up its GPUs",
            ignored::object,
        ),
        ignored(
            "active_workspace",
            "SkyPilot workspace.",
            &["default"],
            "this server has no workspaces",
            ignored::text,
        ),
        ignored(
            "aws",
            "Settings of AWS.",
            &[],
            "this server has one Kubernetes cluster",
            ignored::object,
        ),
        ignored(
            "azure",
            "Settings of Azure.",
            &[],
            "this server has one Kubernetes cluster",
            ignored::object,
        ),
        ignored(
            "gcp",
            "Settings of Google Cloud.",
            &[],
            "this server has one Kubernetes cluster",
            ignored::object,
        ),
        ignored(
            "oci",
            "Settings of Oracle Cloud.",
            &[],
            "this server has one Kubernetes cluster",
            ignored::object,
        ),
        ignored(
            "ssh",
            "Settings of SSH node pools.",
            &[],
            "this server has one Kubernetes cluster",
            ignored::object,
        ),
        ignored(
            "slurm",
            "Settings of Slurm.",
            &[],
            "this server has one Kubernetes cluster",
            ignored::object,
        ),
        ignored(
            "vast",
            "Settings of Vast.",
            &[],
            "this server has one Kubernetes cluster",
            ignored::object,
        ),
        ignored(
            "nebius",
            "Settings of Nebius.",
            &[],
            "this server has one Kubernetes cluster",
            ignored::object,
        ),
        ignored(
            "runpod",
            "Settings of RunPod.",
            &[],
            "this server has one Kubernetes cluster",
            ignored::object,
        ),
        ignored(
            "lambda_cloud",
            "Settings of Lambda Cloud.",
            &[],
            "this server has one Kubernetes cluster",
            ignored::object,
        ),
        ignored(
            "jobs",
            "Settings of SkyPilot's jobs controller.",
            &[],
            "this server has no such controller",
            ignored::object,
        ),
    ],
};

/// An item of `config.hooks`.
pub const HOOKS: Section = Section {
    path: "config.hooks",
    summary: "A Bash script that each node runs before its processes receive SIGTERM. The hooks run in the order of the \
              file.",
    keys: &[
        full(
            "run",
            "Bash script. It has the environment and the directory in which `setup` starts.",
            &["./save-checkpoint"],
        ),
        full(
            "events",
            "SkyPilot's events: `stop`, `preemption`, `down`. Each means any SIGTERM: stop, cancel, time limit, eviction, \
             preemption, or the failure of another node. Defaults to all.",
            &["[preemption]", "[stop, down]"],
        ),
        full(
            "timeout",
            "Timeout in seconds. Lengthens the node's grace period by as much, up to 10 minutes in all. Defaults to \
             3600, but no longer than the grace period.",
            &["60"],
        ),
    ],
};

/// `config.kubernetes`.
pub const KUBERNETES: Section = Section {
    path: "config.kubernetes",
    summary: "Kubernetes settings of a task.",
    keys: &[
        full(
            "provision_timeout",
            "Provisioning timeout in seconds: the task fails if its nodes are not all scheduled within this time. -1 means no timeout.",
            &["600", "-1"],
        ),
        full("kueue", "Kueue settings of the task.", &["{local_queue_name: team-a}"]),
        full(
            "custom_metadata",
            "Labels and annotations of the pods.",
            &["{labels: {team: vision}, annotations: {note: first run}}"],
        ),
        full(
            "remote_identity",
            "Service account of the pods, if the operator lets tasks choose it (`--allow-service-account` of the server). \
             SkyPilot's other words have no effect: the server's `--service-account` applies.",
            &["my-account", "SERVICE_ACCOUNT", "LOCAL_CREDENTIALS"],
        ),
        full(
            "pod_config",
            "Fields of the pods, which are merged as in SkyPilot, as far as the operator allows them.",
            &["{spec: {tolerations: [{key: gpu, operator: Exists}]}}"],
        ),
        ignored(
            "set_pod_resource_limits",
            "Whether pods have resource limits.",
            &["true", "1.5"],
            "limits of CPUs and memory equal the requests of the task",
            ignored::anything,
        ),
        rejected_unless(
            "enable_docker",
            "Docker inside of the task.",
            "the cluster does not allow Docker in tasks",
            ignored::is_off,
        ),
        rejected_unless(
            "dws",
            "Google's Dynamic Workload Scheduler.",
            "it is not supported; use `kueue` for a queue",
            ignored::is_disabled,
        ),
        rejected(
            "quota",
            "Quota of a Kueue queue.",
            "it is not supported; use `kueue` for a queue",
        ),
    ],
};

/// `config.kubernetes.custom_metadata`.
pub const CUSTOM_METADATA: Section = Section {
    path: "config.kubernetes.custom_metadata",
    summary: "Labels and annotations of the pods.",
    keys: &[
        full("labels", "Labels of the pods.", &["{team: vision}"]),
        full("annotations", "Annotations of the pods.", &["{note: first run}"]),
    ],
};

/// `config.kubernetes.kueue`.
pub const KUEUE: Section = Section {
    path: "config.kubernetes.kueue",
    summary: "Kueue settings of a task.",
    keys: &[full(
        "local_queue_name",
        "Kueue LocalQueue to submit the task to.",
        &["team-a"],
    )],
};
