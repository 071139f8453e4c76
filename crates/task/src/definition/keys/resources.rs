//! The keys of `resources`, and of what is in it.

use super::key::{Section, full, ignored};
use crate::definition::ignored;

/// `resources`.
pub const RESOURCES: Section = Section {
    path: "resources",
    summary: "Resources of each node of a task.",
    keys: &[
        full("cpus", "Number of CPUs. `4+` requests 4.", &["4", "0.5", "500m", "4+"]),
        full(
            "memory",
            "Amount of memory: a number of GiB, a size with a unit, or a multiple of `cpus`.",
            &["16", "16GB", "512Mi", "16+", "4x"],
        ),
        full(
            "accelerators",
            "GPUs: a model, a model with a count, or a count for any model. A list names alternatives in order of \
             preference, and several keys name alternatives in any order.",
            &["H100", "H100:8", "{H100: 8}", "2", "[H100, A100]"],
        ),
        full("gpus", "Another name of `accelerators`.", &["H100:8"]),
        full(
            "image_id",
            "Container image, with or without the prefix `docker:`. It must contain Bash.",
            &["docker:nvcr.io/nvidia/pytorch:25.06-py3", "python:3.13-slim"],
        ),
        full(
            "job_recovery",
            "When to retry the task after a failure.",
            &["FAILOVER", "{max_restarts_on_errors: 3, recover_on_exit_codes: [33]}"],
        ),
        full(
            "disk_size",
            "Local disk that each node requests (`ephemeral-storage`): a number of GiB, or a size with a unit. The engine of a single machine does not reserve disk.",
            &["256", "256GB"],
        ),
        full("ephemeral_storage", "Old name of `disk_size`.", &["256"]),
        full("labels", "Labels of the pods.", &["{team: vision}"]),
        full(
            "priority_class",
            "Kubernetes PriorityClass, or Kueue's with a queue, if the operator lets tasks choose one.",
            &["high-priority"],
        ),
        full(
            "infra",
            "Where to run. There is one Kubernetes cluster, so only its names are accepted.",
            &["k8s", "kubernetes"],
        ),
        full("cloud", "Old form of `infra`.", &["kubernetes"]),
        full(
            "region",
            "With `cloud: kubernetes`, the context of the kubeconfig. There is one cluster, so it has no effect.",
            &["my-context"],
        ),
        full("zone", "Only for other clouds.", &["null"]),
        full(
            "instance_type",
            "SkyPilot's name for CPUs, memory, and GPUs. Those of other clouds have no effect, and are left out as alternatives.",
            &["4CPU--16GB", "8CPU--32GB--H100:1"],
        ),
        full(
            "use_spot",
            "Use only spot instances: nodes with the label `cloud.google.com/gke-spot=true` or \
             `karpenter.sh/capacity-type=spot`. If there are none, any node is used, with a warning.",
            &["true"],
        ),
        full(
            "any_of",
            "Alternatives, in any order. Each lists only the keys in which it differs from the rest of `resources`. With \
             several keys in `accelerators`, each is an alternative with each of the models.",
            &["[{accelerators: H100}, {accelerators: A100}]"],
        ),
        full(
            "ordered",
            "Alternatives in order of preference.",
            &["[{accelerators: H100}, {accelerators: A100}]"],
        ),
        full(
            "ports",
            "Ports of the first node to expose. `k8s-cli jobs status` shows their addresses.",
            &["8080", "8080-8090", "[8080, 9000-9010]"],
        ),
        ignored(
            "accelerator_args",
            "Settings of TPUs.",
            &["{runtime_version: tpu-vm-base}"],
            "it is for TPUs of another cloud",
            ignored::object,
        ),
        ignored(
            "disk_tier",
            "Performance of the disk.",
            &["low", "medium", "high", "ultra", "best"],
            "the cluster decides",
            ignored::disk_tier,
        ),
        ignored(
            "network_tier",
            "Performance of the network.",
            &["standard", "best"],
            "the cluster decides",
            ignored::network_tier,
        ),
        ignored(
            "local_disk",
            "Local NVMe disks.",
            &["nvme:1000+"],
            "the cluster decides",
            ignored::text,
        ),
        ignored(
            "max_hourly_cost",
            "Highest price per hour.",
            &["3.5"],
            "nodes have no price",
            ignored::positive_number,
        ),
        ignored(
            "autostop",
            "When to stop an idle cluster.",
            &["true", "10", "10h", "{idle_minutes: 10, down: true}"],
            "the nodes of a task end with it",
            ignored::autostop,
        ),
        ignored(
            "priority",
            "Order in SkyPilot's queue, from -1000 to 1000.",
            &["500"],
            "Kubernetes decides the order",
            ignored::priority,
        ),
    ],
};

/// `resources.job_recovery`.
pub const JOB_RECOVERY: Section = Section {
    path: "resources.job_recovery",
    summary: "When to retry the task after a failure.",
    keys: &[
        full(
            "strategy",
            "`FAILOVER` or `EAGER_NEXT_REGION`, which are the same on one cluster, or `none`.",
            &["FAILOVER", "none"],
        ),
        full(
            "max_restarts_on_errors",
            "Number of retries after failures of the task itself. Defaults to 0.",
            &["3"],
        ),
        full(
            "recover_on_exit_codes",
            "Exit codes whose retries don't count toward `max_restarts_on_errors`.",
            &["33", "[33, 34]"],
        ),
    ],
};
