//! The keys of the task file itself.

use super::key::{Section, full, ignored, rejected, rejected_unless};
use crate::definition::ignored;

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
             the CLI copies to each node; an absolute path is a directory of the container. With `url`, a git repository \
             that each node clones, and with `ref` a branch, tag, or commit of it.",
            &[".", "~/code", "/code", "{url: https://github.com/org/repo, ref: main}"],
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
            "Bash script to run on each node. May be absent from a file, or if there is a `setup`.",
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
            "Files and folders of your machine, of a bucket, or of a web server to copy, by the path on the nodes, or a \
             volume to mount, with SkyPilot's notation for a bucket that has a name but no address.",
            &[
                "{/etc/train: ./config}",
                "{/data/train: s3://my-bucket/train}",
                "{/data/labels.zip: https://example.com/labels.zip}",
                "{/data: {name: my-data, mode: MOUNT}}",
            ],
        ),
        full(
            "outputs",
            "Files and folders of the first node to keep when it ends, by the path to which `k8s-cli jobs outputs` writes \
             them: an absolute path, one below `~`, or one in the folder in which `run` starts. Variables of `envs` are \
             filled in. In SkyPilot, this key is the estimated size of the output.",
            &["{./results: results}", "{model.pt: /tmp/model.pt}"],
        ),
        rejected_unless(
            "managed_secrets",
            "Stored secrets.",
            "this server stores no secrets; give each with `--secret NAME=VALUE`, or pass your own with `--secret NAME`",
            ignored::is_empty,
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
            "file_mounts_mapping",
            "Written by SkyPilot itself.",
            &[],
            "SkyPilot writes it for its own server",
            ignored::anything,
        ),
        ignored(
            "_metadata",
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
