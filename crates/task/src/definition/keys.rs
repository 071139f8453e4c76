//! Every key of SkyPilot's task file, and what this server makes of it.
//!
//! The parsers, the warnings, the errors, `k8s-cli explain`, and `docs/TASK_FILE.md` all use these tables.
//! Source: SkyPilot's `get_task_schema`, `get_resources_schema`, and `get_config_schema`, release 0.14.

use serde_json::Value;

use super::ignored;
use crate::validation::{Fields, Validator};

/// A part of the task file.
#[derive(Debug)]
pub struct Section {
    /// Where it is in the file, e.g., `resources`; empty for the file itself.
    pub path: &'static str,
    /// What it describes.
    pub summary: &'static str,
    /// Its keys, in the order in which they are documented.
    pub keys: &'static [Key],
}

/// A key of a section.
#[derive(Debug)]
pub struct Key {
    /// Its name in the file.
    pub name: &'static str,
    /// What it sets.
    pub summary: &'static str,
    /// Values as they are written in YAML.
    pub examples: &'static [&'static str],
    /// What this server makes of it.
    pub support: Support,
}

/// What this server makes of a key.
#[derive(Debug, Clone, Copy)]
pub enum Support {
    /// It has the effect that the summary describes.
    Full,
    /// It is accepted with a warning.
    Ignored {
        /// Why it has no effect, or what to use instead.
        reason: &'static str,
        /// Checks its format.
        check: Check,
    },
    /// It is rejected, because without it something else would run.
    Rejected {
        /// What to use instead.
        reason: &'static str,
    },
}

/// Checks the format of a key without effect. Returns whether the value asks for something, so that a warning is due;
/// `None` if it reported an error.
pub type Check = fn(&Value, &mut Validator) -> Option<bool>;

const fn full(name: &'static str, summary: &'static str, examples: &'static [&'static str]) -> Key {
    let support = Support::Full;
    Key {
        name,
        summary,
        examples,
        support,
    }
}

const fn ignored(
    name: &'static str,
    summary: &'static str,
    examples: &'static [&'static str],
    reason: &'static str,
    check: Check,
) -> Key {
    let support = Support::Ignored { reason, check };
    Key {
        name,
        summary,
        examples,
        support,
    }
}

const fn rejected(name: &'static str, summary: &'static str, reason: &'static str) -> Key {
    let support = Support::Rejected { reason };
    Key {
        name,
        summary,
        examples: &[],
        support,
    }
}

/// All sections.
pub const SECTIONS: &[&Section] = &[
    &TASK,
    &RESOURCES,
    &JOB_RECOVERY,
    &CONFIG,
    &HOOKS,
    &KUBERNETES,
    &CUSTOM_METADATA,
    &KUEUE,
];

/// The file itself.
pub const TASK: Section = Section {
    path: "",
    summary: "A task: one or more nodes that run the same Bash scripts.",
    keys: &[
        full("name", "Name of the task. Defaults to `task-{task_id}`.", &["train"]),
        full("num_nodes", "Number of nodes. Defaults to 1.", &["4"]),
        full(
            "resources",
            "Resources of each node.",
            &["{cpus: 4, memory: 16, accelerators: \"H100:8\"}"],
        ),
        full(
            "envs",
            "Environment variables of `setup` and `run`. One without a value must be set with `--env`.",
            &["{LR: 0.1}"],
        ),
        full(
            "secrets",
            "Secret environment variables, which are stored in a Kubernetes Secret of the task and never shown. One \
             without a value must be set with `--secret`.",
            &["{HF_TOKEN: null}"],
        ),
        full(
            "workdir",
            "Folder in which `setup` and `run` start: a relative path or one below `~` is a folder of your machine, which \
             the CLI copies to each node; an absolute path is a directory of the container.",
            &[".", "~/code", "/code"],
        ),
        full(
            "files",
            "File sets to unpack on each node, by path; `.` is the working folder. The CLI uploads them and fills this in \
             for `workdir` and `file_mounts`.",
            &["{.: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08}"],
        ),
        full(
            "volumes",
            "Volumes to mount, by mount path: a name, or a name and a directory in the volume. With a size, each node gets \
             an empty volume that is deleted with its pod. Variables of `envs` are filled in.",
            &[
                "{/data: my-data}",
                "{/data: {name: my-data, sub_path: train}}",
                "{/scratch: {size: 100Gi}}",
            ],
        ),
        full(
            "setup",
            "Bash script that runs before `run`, in a shell of its own. `run` sees what it exports.",
            &["pip install numpy"],
        ),
        full(
            "run",
            "Bash script to run on each node. May be absent if there is a `setup`.",
            &["python3 train.py"],
        ),
        full(
            "max_duration",
            "Time limit of each node. Not a key of SkyPilot.",
            &["90s", "30m", "1h30m", "2d"],
        ),
        full(
            "config",
            "Settings of the task.",
            &["{kubernetes: {provision_timeout: 600}}"],
        ),
        full(
            "file_mounts",
            "Files and folders of your machine to copy, by the path on the nodes, or a volume to mount, with SkyPilot's \
             notation for a bucket that is named and not addressed. Addresses of buckets are rejected.",
            &["{/etc/train: ./config}", "{/data: {name: my-data, mode: MOUNT}}"],
        ),
        rejected(
            "managed_secrets",
            "Stored secrets.",
            "this server stores no secrets; give each with `--secret NAME=VALUE`, or pass your own with `--secret NAME`",
        ),
        rejected(
            "service",
            "A SkyServe service.",
            "a service is not a task, and this server runs only tasks",
        ),
        rejected(
            "pool",
            "A pool of workers.",
            "this server has no pools; the tasks of all users share its cluster",
        ),
        rejected(
            "experimental",
            "Old name of `config`.",
            "SkyPilot has removed it; use `config`",
        ),
        ignored(
            "api_server_access",
            "Access to the SkyPilot API server.",
            &["true"],
            "tasks don't get access to the server",
            ignored::flag,
        ),
        ignored(
            "event_callback",
            "Script that SkyPilot runs on state changes.",
            &[],
            "use `k8s-cli jobs wait` to act on the end of a task",
            ignored::text,
        ),
        ignored(
            "inputs",
            "Estimated size of the input.",
            &[],
            "it only informs SkyPilot's optimizer",
            ignored::anything,
        ),
        ignored(
            "outputs",
            "Estimated size of the output.",
            &[],
            "it only informs SkyPilot's optimizer",
            ignored::anything,
        ),
        ignored(
            "file_mounts_mapping",
            "Written by SkyPilot itself.",
            &[],
            "SkyPilot writes it for its own server",
            ignored::anything,
        ),
        ignored(
            "volume_mounts",
            "Written by SkyPilot itself.",
            &[],
            "use `volumes`",
            ignored::anything,
        ),
    ],
};

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
            "SkyPilot's name for CPUs, memory, and GPUs. Other names have no effect.",
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
            "Alternatives, in any order. Each has the keys that differ from the others of `resources`.",
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
            "Exit codes after which the task is retried without counting.",
            &["33", "[33, 34]"],
        ),
    ],
};

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
            "Timeout in seconds, by which the grace period of the node becomes longer, up to 10 minutes in all. Defaults \
             to 3600, as far as the grace period lasts.",
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
        ignored(
            "remote_identity",
            "Identity of the pods in the cluster.",
            &["SERVICE_ACCOUNT", "LOCAL_CREDENTIALS"],
            "the server's `--service-account` applies",
            ignored::remote_identity,
        ),
        rejected(
            "enable_docker",
            "Docker inside of the task.",
            "the cluster does not allow Docker in tasks",
        ),
        rejected(
            "dws",
            "Google's Dynamic Workload Scheduler.",
            "it is not supported; use `kueue` for a queue",
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

impl Section {
    /// The key with this name.
    #[must_use]
    pub fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }

    /// The path of one of its keys, e.g., `resources.cpus`.
    #[must_use]
    pub fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() {
            return key.to_owned();
        }
        format!("{}.{key}", self.path)
    }

    /// Parses a key without effect, in its place among the others: errors are reported in the order of parsing.
    pub(super) fn ignore(&self, fields: &mut Fields<'_, '_>, name: &str) {
        let Some(key) = self.key(name) else { return };
        if let Support::Ignored { reason, check } = key.support
            && fields.optional(key.name, check) == Some(true)
        {
            fields.warn(format!("`{}` has no effect: {reason}", self.path_of(key.name)));
        }
    }

    /// Ends the parsing of this section: warns of keys without effect, and reports those that are unknown or rejected.
    pub(super) fn finish(&self, mut fields: Fields<'_, '_>) {
        for key in self.keys {
            if !fields.is_parsed(key.name) {
                self.ignore(&mut fields, key.name);
            }
        }
        fields.deny_unknown_fields(|name| match self.key(name)?.support {
            Support::Rejected { reason } => Some(reason),
            Support::Full | Support::Ignored { .. } => None,
        });
    }
}

/// The keys of `resources` that mean the same as `key`, or that it replaces.
#[must_use]
pub fn aliases(key: &str) -> &'static [&'static str] {
    match key {
        "accelerators" => &["gpus"],
        "gpus" => &["accelerators"],
        "disk_size" => &["ephemeral_storage"],
        "ephemeral_storage" => &["disk_size"],
        "infra" => &["cloud", "region", "zone"],
        "cloud" => &["infra"],
        _ => &[],
    }
}

/// The section at a path, e.g., `resources`, or the section and name of a key, e.g., `resources.cpus`.
#[must_use]
pub fn find(path: &str) -> Option<(&'static Section, Option<&'static Key>)> {
    if let Some(section) = SECTIONS.iter().find(|section| section.path == path) {
        return Some((section, None));
    }
    let (parent, name) = path.rsplit_once('.').unwrap_or(("", path));
    let section = SECTIONS.iter().find(|section| section.path == parent)?;
    Some((section, Some(section.key(name)?)))
}

#[cfg(test)]
mod tests;
