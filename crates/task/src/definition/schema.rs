//! The OpenAPI schemas of task and volume definitions, for generated clients.
//!
//! They accept whatever the parsers accept, with these exceptions: a `null` (absent means the same), Pydantic's
//! conversions (e.g., `"3"` for the number 3), numbers and booleans in `secrets`, a task with a `setup` but without `run`,
//! and old names of keys, which exclude the new ones. `docs/API.md` lists them. Where a rule cannot be a portable schema, the
//! description has it.

mod config;

use std::borrow::Cow;

use serde_json::{Value, json};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use self::config::{config_schema, custom_metadata_schema, hook_schema, kubernetes_schema, kueue_schema};
use super::envs::{MAX_VARIABLE_BYTES, MAX_VARIABLE_NAME_BYTES, MAX_VARIABLES, VARIABLE_NAME_PATTERN};
use super::file_mounts::MAX_FILE_MOUNTS;
use super::files::{FILE_SET_PATTERN, MAX_FILE_SETS, TARGET_PATTERN};
use super::group_definition::{GroupDefinition, MAX_GROUP_NODES, MAX_GROUP_TASKS, MAX_SERIAL_TASKS};
use super::keys::{self, Section, Support};
use super::metadata::{KEY_PATTERN, LABEL_VALUE_PATTERN, MAX_ENTRIES, MAX_KEY_LENGTH, MAX_NAME_BYTES};
use super::outputs::{MAX_OUTPUT_NAME_BYTES, MAX_OUTPUTS, OUTPUT_NAME_PATTERN};
use super::ports::MAX_EXPOSED_PORTS;
use super::resources::{IMAGE_PATTERN, MAX_IMAGE_BYTES, MAX_PRIORITY_CLASS_BYTES, PRIORITY_CLASS_PATTERN};
use super::scripts::{MAX_PATH_BYTES, MAX_SCRIPT_BYTES, NO_NUL_PATTERN};
use super::task_definition::{MAX_NODES, TaskDefinition};
use super::volume_mounts::{MAX_VOLUMES, MOUNT_PATH_PATTERN};
use crate::name;
use crate::quantity::{MAX_SIZE_LENGTH, SIZE_PATTERN};
use crate::volume::{MAX_ACCESS_MODES, STORAGE_CLASS_PATTERN, VolumeDefinition};

impl PartialSchema for TaskDefinition {
    fn schema() -> RefOr<Schema> {
        into_schema(task_schema())
    }
}

impl ToSchema for TaskDefinition {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("TaskDefinition")
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        // Inline objects would have no names in generated clients.
        let parts = [
            ("Resources", resources_schema()),
            ("TaskConfig", config_schema()),
            ("Hook", hook_schema()),
            ("KubernetesConfig", kubernetes_schema()),
            ("KueueConfig", kueue_schema()),
            ("CustomMetadata", custom_metadata_schema()),
        ];
        schemas.extend(parts.map(|(name, schema)| (name.to_owned(), into_schema(schema))));
    }
}

impl PartialSchema for GroupDefinition {
    fn schema() -> RefOr<Schema> {
        into_schema(group_schema())
    }
}

impl ToSchema for GroupDefinition {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("GroupDefinition")
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((TaskDefinition::name().into_owned(), TaskDefinition::schema()));
        TaskDefinition::schemas(schemas);
    }
}

impl PartialSchema for VolumeDefinition {
    fn schema() -> RefOr<Schema> {
        into_schema(volume_schema())
    }
}

impl ToSchema for VolumeDefinition {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("VolumeDefinition")
    }
}

fn into_schema(value: Value) -> RefOr<Schema> {
    RefOr::T(serde_json::from_value(value).expect("the schemas below are valid; a test checks this"))
}

fn reference(name: &str, description: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}"), "description": description})
}

/// A value with several notations. It has no type (utoipa omits the null), because generators fail on types that are
/// alternatives of text, numbers, lists, and objects.
fn any_value(description: impl Into<String>, examples: Value) -> Value {
    json!({"type": null, "description": description.into(), "examples": examples})
}

fn name_schema(description: &str) -> Value {
    json!({
        "type": "string",
        "description": description,
        "minLength": 1,
        "maxLength": name::MAX_LENGTH,
        "pattern": name::PATTERN,
    })
}

/// Adds the keys without effect.
fn with_ignored_keys(mut schema: Value, section: &Section) -> Value {
    for key in section.keys {
        if let Support::Ignored { reason, .. } = key.support {
            let description = format!("{} Accepted for compatibility; has no effect: {reason}.", key.summary);
            let examples = key
                .examples
                .iter()
                .filter_map(|example| yaml_example(example))
                .collect::<Vec<_>>();
            let mut property = any_value(description, json!(examples));
            if examples.is_empty() {
                property = json!({"type": null, "description": property["description"]});
            }
            schema["properties"][key.name] = property;
        }
    }
    schema
}

/// An example in YAML as JSON, if both notations are the same or it is text.
fn yaml_example(example: &str) -> Option<Value> {
    if example.starts_with(['{', '[']) {
        return None;
    }
    Some(serde_json::from_str(example).unwrap_or_else(|_| json!(example)))
}

/// A map of labels or annotations.
fn metadata_schema(description: &str, value: &Value) -> Value {
    json!({
        "type": "object",
        "description": description,
        "maxProperties": MAX_ENTRIES,
        "propertyNames": {"type": "string", "pattern": KEY_PATTERN, "maxLength": MAX_KEY_LENGTH},
        "additionalProperties": value,
    })
}

fn labels_schema() -> Value {
    metadata_schema(
        "Labels of the pods. A name has at most 63 characters. Labels of Kubernetes and of this server cannot be set.",
        &json!({"type": "string", "pattern": LABEL_VALUE_PATTERN, "maxLength": MAX_NAME_BYTES}),
    )
}

fn task_schema() -> Value {
    let schema = json!({
        "type": "object",
        "description": "A task: one or more nodes that run the same Bash script.",
        "required": ["run"],
        "additionalProperties": false,
        "properties": {
            "name": name_schema("Name of the task. Defaults to `task-{task_id}`."),
            "workdir": any_value(
                "Where `setup` and `run` start: a directory of the container, or a git repository that each node clones, \
                 as an object with its `url` (`https://`, `ssh://`, or `USER@HOST:PATH`) and, optionally, its `ref`, a \
                 branch, tag, or commit. The secret `GIT_TOKEN` or `GIT_SSH_KEY` opens a private repository.",
                json!(["/code", {"url": "https://github.com/org/repo", "ref": "main"}]),
            ),
            "files": files_schema(),
            "outputs": outputs_schema(),
            "num_nodes": {
                "type": "integer",
                "description": "Number of nodes. Defaults to 1.",
                "minimum": 1,
                "maximum": MAX_NODES,
            },
            "resources": reference("Resources", "Resources of each node."),
            "envs": envs_schema(),
            "secrets": secrets_schema(),
            "max_duration": {
                "type": "string",
                "description": "Time limit of each node, from 1 second to 1 year. Defaults to the server's time limit.",
                "examples": ["90s", "30m", "1h30m", "2d"],
            },
            "config": reference("TaskConfig", "Settings of the task."),
            "file_mounts": file_mounts_schema(),
            "volumes": volumes_schema(),
            "setup": {
                "type": "string",
                "description": "Bash script that runs before `run`, in a shell of its own. `run` sees what it exports. If it \
                    fails, the node fails.",
                "pattern": NO_NUL_PATTERN,
                "maxLength": MAX_SCRIPT_BYTES,
            },
            "run": {
                "type": "string",
                "description": "Bash script to run on each node. May be absent if there is a `setup`.",
                "pattern": NO_NUL_PATTERN,
                "maxLength": MAX_SCRIPT_BYTES,
            },
        },
        "examples": [
            {"name": "hello", "num_nodes": 3, "run": "echo hello from node $NODE_RANK of $NUM_NODES"},
        ],
    });
    with_ignored_keys(schema, &keys::TASK)
}

fn files_schema() -> Value {
    json!({
        "type": "object",
        "description": "File sets to unpack on each node, by path: `.` is the working folder, in which `setup` and `run` then start, and a relative path is below it. See `PUT /files/{file_set_id}`.",
        "maxProperties": MAX_FILE_SETS,
        "propertyNames": {"type": "string", "minLength": 1, "maxLength": MAX_PATH_BYTES, "pattern": TARGET_PATTERN},
        "additionalProperties": {"type": "string", "pattern": FILE_SET_PATTERN},
    })
}

fn outputs_schema() -> Value {
    json!({
        "type": "object",
        "description": "What the first node wrote and is kept when it ends, by the relative path to which it is written when it is downloaded. See `GET /tasks/{task_id}/outputs`.",
        "maxProperties": MAX_OUTPUTS,
        "propertyNames": {"type": "string", "minLength": 1, "maxLength": MAX_OUTPUT_NAME_BYTES, "pattern": OUTPUT_NAME_PATTERN},
        "additionalProperties": any_value(
            format!(
                "Path on the node, of at most {MAX_PATH_BYTES} bytes without control characters. A number, the \
                 estimated size in SkyPilot, has no effect."
            ),
            json!(["results", "/tmp/model.pt"]),
        ),
    })
}

fn variable_name_schema() -> Value {
    json!({"type": "string", "pattern": VARIABLE_NAME_PATTERN, "maxLength": MAX_VARIABLE_NAME_BYTES})
}

fn envs_schema() -> Value {
    json!({
        "type": "object",
        "description": "Environment variables of `setup` and `run`.",
        "maxProperties": MAX_VARIABLES,
        "propertyNames": variable_name_schema(),
        "additionalProperties": any_value(
            format!(
                "A text of at most {MAX_VARIABLE_BYTES} bytes without NUL characters, a number, or a boolean. \
                 As in SkyPilot, numbers and booleans become text; `true` becomes `True`."
            ),
            json!(["text", 10, 0.5, true]),
        ),
    })
}

fn secrets_schema() -> Value {
    json!({
        "type": "object",
        "description": "Secret environment variables of `setup` and `run`, stored in a Kubernetes Secret of the \
            task. No response contains their values. `SKYPILOT_DOCKER_USERNAME`, `SKYPILOT_DOCKER_PASSWORD`, \
            and `SKYPILOT_DOCKER_SERVER`, here or in `envs`, are a login to the registry of the image.",
        "maxProperties": MAX_VARIABLES,
        "propertyNames": variable_name_schema(),
        "additionalProperties": {
            "type": "string", "format": "password", "writeOnly": true, "maxLength": MAX_VARIABLE_BYTES,
            "pattern": NO_NUL_PATTERN,
        },
    })
}

fn file_mounts_schema() -> Value {
    json!({
        "type": "object",
        "description": "What each node copies before `setup`, by path: a folder or an object of a bucket \
            (`s3://`, `gs://`), or a file of a web server (`https://`), with the credentials in the variables of \
            the task, such as the secret `AWS_ACCESS_KEY_ID`. Also volumes to mount in SkyPilot's notation for \
            buckets that have a name but no address. Local paths have no effect. The path of a copy is not \
            empty, does not end with `/`, and does not contain `..`; the mount path of a volume must be \
            absolute, as in `volumes`.",
        "maxProperties": MAX_FILE_MOUNTS,
        "additionalProperties": any_value(
            "An address to copy from, a volume to mount, or a local path.",
            json!(["s3://my-bucket/train", {"name": "my-data", "mode": "MOUNT"}, "./data"]),
        ),
    })
}

fn volumes_schema() -> Value {
    json!({
        "type": "object",
        "description": "Volumes to mount, by mount path. A value is the name of one of the user's volumes, or of \
            a PersistentVolumeClaim without an owner, alone or with a directory in the volume; or a size, \
            which makes a volume for each node that is deleted with its pod. Variables of \
            `envs` are filled in. Volumes cannot be mounted at `/proc`, `/sys`, `/dev` \
            (except `/dev/shm`), or `/etc/k8s-cli`, nor can a path contain `..`.",
        "maxProperties": MAX_VOLUMES,
        "propertyNames": {"type": "string", "pattern": MOUNT_PATH_PATTERN, "maxLength": MAX_PATH_BYTES},
        "additionalProperties": any_value(
            "A volume to mount.", json!(["my-data", {"name": "my-data", "sub_path": "train"}, {"size": "10Gi"}]),
        ),
    })
}

fn resources_schema() -> Value {
    let schema = json!({
        "type": "object",
        "description": "Resources of each node of a task.",
        "additionalProperties": false,
        "properties": {
            "cpus": any_value(
                "Number of CPUs, as a number or text. `4+` requests 4.",
                json!(["4", 4, 0.5, "0.5", "500m", "4+", "4.5+"]),
            ),
            "memory": any_value(
                "Amount of memory: a number of GiB, or text with a unit. The units `GB` and `Gi` are the same, as in \
                 SkyPilot; `G` is 1000³ bytes. `4x` is 4 GiB for each of the `cpus`.",
                json!(["16GB", 16, "16", "16+", "1.5Gi", "512Mi", "16G"]),
            ),
            "accelerators": any_value(
                "GPUs: a model, a model with a count, or a count for any model. A list names alternatives in order of \
                 preference, and an object with several models names alternatives in any order.",
                json!(["H100:8", "H100", {"H100": 8}, "1", ["H100", "A100:2"], {"H100": 1, "A100": 2}]),
            ),
            "use_spot": any_value("Use only spot instances.", json!([true, false])),
            "any_of": any_value(
                "Alternatives, in any order. Each is an object with the keys of `resources` that differ.",
                json!([[{"accelerators": "H100"}, {"accelerators": "A100"}]]),
            ),
            "ordered": any_value(
                "Alternatives in order of preference, as in `any_of`.",
                json!([[{"accelerators": "H100"}, {"accelerators": "A100"}]]),
            ),
            "ports": any_value(
                format!(
                    "Ports of the first node to expose: a port, a range, or a list of both; at most {MAX_EXPOSED_PORTS} \
                     ports."
                ),
                json!([8080, "8080-8090", [8080, "9000-9010"]]),
            ),
            "instance_type": {
                "type": "string",
                "description": "SkyPilot's name for CPUs, memory, and GPUs. Those of other clouds have no effect, and are \
                    left out as alternatives.",
                "examples": ["4CPU--16GB", "8CPU--32GB--H100:1"],
            },
            "disk_size": any_value(
                "Local disk that each node requests: a number of GiB, or text with a unit.",
                json!([256, "256", "256GB", "1TB"]),
            ),
            "labels": labels_schema(),
            "priority_class": priority_class_schema(),
            "infra": {
                "type": "string",
                "description": "Where to run. There is one Kubernetes cluster, so only its names are accepted.",
                "pattern": "^ *([kK]8[sS]|[kK][uU][bB][eE][rR][nN][eE][tT][eE][sS]|\\*) *(/[\\s\\S]*)?$",
                "examples": ["k8s", "kubernetes", "k8s/my-context", "*"],
            },
            "job_recovery": job_recovery_schema(),
            "image_id": {
                "type": "string",
                "description": "Container image, with or without the prefix `docker:`. It must contain Bash.",
                "minLength": 1,
                "maxLength": MAX_IMAGE_BYTES,
                "pattern": IMAGE_PATTERN,
            },
        },
    });
    with_ignored_keys(schema, &keys::RESOURCES)
}

fn job_recovery_schema() -> Value {
    any_value(
        "When to retry the task after a failure: a strategy (`FAILOVER`, `EAGER_NEXT_REGION`, or `none`, in any \
         case), or an object with a `strategy`, with `max_restarts_on_errors` (0 to 1000; 0 by default), and \
         with `recover_on_exit_codes` (an exit code or a list of exit codes).",
        json!([
            {"max_restarts_on_errors": 3, "recover_on_exit_codes": [33]},
            {"strategy": "eager_next_region", "recover_on_exit_codes": 33},
            "FAILOVER",
            "none",
        ]),
    )
}

fn priority_class_schema() -> Value {
    json!({
        "type": "string",
        "description": "Kubernetes PriorityClass, or Kueue's with a queue, if the operator lets tasks choose \
            one. Names that start with `system-` are reserved.",
        "maxLength": MAX_PRIORITY_CLASS_BYTES,
        "pattern": PRIORITY_CLASS_PATTERN,
    })
}

fn group_schema() -> Value {
    json!({
        "type": "object",
        "description": "A group of tasks that are submitted together: a pipeline, whose tasks run one after the other, \
            or a sweep, whose tasks run side by side.",
        "required": ["tasks"],
        "additionalProperties": false,
        "properties": {
            "name": name_schema("Name of the group. Defaults to `group-{group_id}`."),
            "execution": {
                "type": "string",
                "enum": ["serial", "parallel"],
                "description": "`serial` runs the tasks one after the other; the first failure cancels those after it. \
                    `parallel`, the default, runs them side by side.",
            },
            "max_parallel": {
                "type": "integer",
                "description": "How many tasks of a parallel group run at the same time. Defaults to all.",
                "minimum": 1,
                "maximum": u32::MAX,
            },
            "tasks": {
                "type": "array",
                "description": format!(
                    "The tasks, in order. A serial group has at most {MAX_SERIAL_TASKS}. Together, they have at most \
                     {MAX_GROUP_NODES} nodes."
                ),
                "minItems": 1,
                "maxItems": MAX_GROUP_TASKS,
                "items": {"$ref": "#/components/schemas/TaskDefinition"},
            },
        },
        "examples": [{"name": "steps", "execution": "serial", "tasks": [{"run": "./prepare"}, {"run": "./train"}]}],
    })
}

fn volume_schema() -> Value {
    json!({
        "type": "object",
        "description": "A volume: storage that outlives the tasks that mount it.",
        "required": ["name", "size"],
        "additionalProperties": false,
        "properties": {
            "name": name_schema("Name of the volume."),
            "size": {
                "type": "string",
                "description": "Minimum size: more than 0, at most 1 EiB. A number without a unit is in GiB. The units \
                    `GB` and `Gi` are the same, as in SkyPilot; `G` is 1000³ bytes.",
                "maxLength": MAX_SIZE_LENGTH,
                "pattern": SIZE_PATTERN,
                "examples": ["10Gi", "100GB", "500M", "1.5Ti", "10"],
            },
            "storage_class": {
                "type": "string",
                "description": "Storage class. Defaults to the default storage class of the cluster.",
                "minLength": 1,
                "maxLength": name::MAX_LENGTH,
                "pattern": STORAGE_CLASS_PATTERN,
            },
            "access_modes": {
                // A client of openapi-generator for Java sends a list that is not set as `[]` unless it may be null.
                "type": ["array", "null"],
                "description": "Access modes. Defaults to `ReadWriteOnce`. `ReadWriteOncePod` cannot be combined with \
                    others.",
                "minItems": 1,
                "maxItems": MAX_ACCESS_MODES,
                "items": {"$ref": "#/components/schemas/AccessMode"},
            },
        },
        "examples": [{"name": "data", "size": "10Gi", "access_modes": ["ReadWriteMany"]}],
    })
}

#[cfg(test)]
mod tests;
