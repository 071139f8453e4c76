//! The OpenAPI schemas of task and volume definitions. They repeat the rules of the parsers for API clients.

use std::borrow::Cow;

use serde_json::{Value, json};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::config::{MAX_PROVISION_TIMEOUT_SECONDS, MAX_QUEUE_LENGTH};
use super::envs::{MAX_VARIABLE_BYTES, MAX_VARIABLE_NAME_BYTES, MAX_VARIABLES};
use super::recovery::MAX_EXIT_CODES;
use super::resources::{MAX_IMAGE_BYTES, MAX_PORTS};
use super::scripts::{MAX_PATH_BYTES, MAX_SCRIPT_BYTES};
use super::task_definition::{MAX_FILE_MOUNTS, TaskDefinition};
use super::volume_mounts::MAX_VOLUMES;
use crate::name;
use crate::quantity::{MAX_CPUS, MAX_MEMORY_GIBIBYTES};
use crate::volume::{ACCESS_MODES, MAX_ACCESS_MODES, STORAGE_CLASS_PATTERN, VolumeDefinition};

/// Text without NUL characters, which cannot be passed to a process.
const NO_NUL: &str = "^[^\\u0000]*$";

fn into_schema(value: Value) -> RefOr<Schema> {
    RefOr::T(serde_json::from_value(value).expect("the schemas below are valid; a test checks this"))
}

impl PartialSchema for TaskDefinition {
    fn schema() -> RefOr<Schema> {
        into_schema(task_schema())
    }
}

impl ToSchema for TaskDefinition {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("TaskDefinition")
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

fn name_schema() -> Value {
    json!({"type": "string", "minLength": 1, "maxLength": name::MAX_LENGTH, "pattern": name::PATTERN})
}

fn task_schema() -> Value {
    let mut name = name_schema();
    name["type"] = json!(["string", "null"]);
    json!({
        "type": "object",
        "description": "A task: one or more nodes that run the same Bash script.",
        "required": ["run"],
        "additionalProperties": false,
        "properties": {
            "name": name,
            "workdir": {
                "type": ["string", "null"],
                "description": "Directory in the container in which `setup` and `run` start.",
                "minLength": 1,
                "maxLength": MAX_PATH_BYTES,
                "pattern": "^[^\\u0000-\\u001f\\u007f-\\u009f]+$",
            },
            "num_nodes": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 1},
            "resources": resources_schema(),
            "envs": {
                "type": ["object", "null"],
                "description": "Environment variables of `setup` and `run`.",
                "maxProperties": MAX_VARIABLES,
                "propertyNames": {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$", "maxLength": MAX_VARIABLE_NAME_BYTES},
                "additionalProperties": {
                    "type": ["string", "number", "boolean"], "pattern": NO_NUL, "maxLength": MAX_VARIABLE_BYTES,
                },
            },
            "max_duration": {
                "type": ["string", "null"],
                "description": "Time limit of each node, e.g., 90s or 1h30m. Defaults to the server's time limit.",
                "pattern": "^[1-9][0-9]{0,3}[smh]$",
            },
            "config": config_schema(),
            "file_mounts": {
                "type": ["object", "null"],
                "description": "Accepted for compatibility; has no effect.",
                "maxProperties": MAX_FILE_MOUNTS,
                "additionalProperties": {"type": "string"},
            },
            "volumes": {
                "type": ["object", "null"],
                "description": "Volumes to mount, by mount path. A value is the name of one of the user's volumes, or of \
                    a PersistentVolumeClaim without an owner.",
                "maxProperties": MAX_VOLUMES,
                "propertyNames": {"type": "string", "pattern": "^(/[A-Za-z0-9_-]+)+$", "maxLength": MAX_PATH_BYTES},
                "additionalProperties": {"type": "string", "minLength": 1},
            },
            "setup": {
                "type": ["string", "null"],
                "description": "Bash script that runs before `run`, in the same shell. If it fails, the node fails.",
                "pattern": NO_NUL,
                "maxLength": MAX_SCRIPT_BYTES,
            },
            "run": {
                "type": "string",
                "description": "Bash script to run on each node.",
                "pattern": NO_NUL,
                "maxLength": MAX_SCRIPT_BYTES,
            },
        },
        "examples": [
            {"name": "hello", "num_nodes": 3, "run": "echo hello from node $NODE_RANK of $NUM_NODES"},
        ],
    })
}

fn config_schema() -> Value {
    json!({
        "type": ["object", "null"],
        "description": "Kubernetes settings of the task.",
        "additionalProperties": false,
        "properties": {
            "kubernetes": {
                "type": ["object", "null"],
                "additionalProperties": false,
                "properties": {
                    "provision_timeout": {
                        "type": ["integer", "null"],
                        "description": "Provisioning timeout in seconds: the task fails if its nodes are not all \
                            scheduled within this time. -1 means no timeout.",
                        "minimum": -1,
                        "maximum": MAX_PROVISION_TIMEOUT_SECONDS,
                    },
                    "kueue": {
                        "type": ["object", "null"],
                        "additionalProperties": false,
                        "properties": {
                            "local_queue_name": {
                                "type": ["string", "null"],
                                "description": "Kueue LocalQueue to submit the task to.",
                                "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
                                "maxLength": MAX_QUEUE_LENGTH,
                            },
                        },
                    },
                },
            },
        },
    })
}

fn resources_schema() -> Value {
    let quantity = "^[1-9][0-9]{0,5}\\+?$";
    let number = |minimum: f64, maximum: i64| json!({"type": "number", "minimum": minimum, "maximum": maximum});
    let ignored = ignored_schemas();
    json!({
        "type": ["object", "null"],
        "description": "Resources of each node.",
        "additionalProperties": false,
        "properties": {
            "cpus": {
                "description": "Number of CPUs: 4, 0.5, \"500m\", or \"4+\".",
                "anyOf": [
                    {"type": "string", "pattern": quantity},
                    {"type": "string", "pattern": "^[1-9][0-9]{0,5}m$"},
                    number(0.001, MAX_CPUS),
                    {"type": "null"},
                ],
            },
            "memory": {
                "description": "Amount of memory: \"16GB\", \"16Gi\", \"512Mi\", or a number of GiB.",
                "anyOf": [
                    {"type": "string", "pattern": quantity},
                    {"type": "string", "pattern": "^[1-9][0-9]{0,5}(GB|Gi|MB|Mi)$"},
                    number(1.0 / 1024.0, MAX_MEMORY_GIBIBYTES),
                    {"type": "null"},
                ],
            },
            "accelerators": {
                "description": "GPUs: \"H100\", \"H100:8\", {\"H100\": 8}, or a count such as \"1\".",
                "anyOf": [
                    {"type": "string", "pattern": "^[A-Za-z][A-Za-z0-9._-]{0,60}(:[1-9][0-9]{0,2})?$"},
                    {"type": "string", "pattern": "^[1-9][0-9]{0,2}$"},
                    {
                        "type": "object",
                        "minProperties": 1,
                        "maxProperties": 1,
                        "propertyNames": {"type": "string", "pattern": "^[A-Za-z][A-Za-z0-9._-]{0,60}$"},
                        "additionalProperties": {"type": "integer", "minimum": 1, "maximum": 1024},
                    },
                    {"type": "null"},
                ],
            },
            "instance_type": ignored["instance_type"],
            "use_spot": ignored["use_spot"],
            "disk_size": ignored["disk_size"],
            "ports": ignored["ports"],
            "job_recovery": job_recovery_schema(),
            "image_id": {
                "type": ["string", "null"],
                "description": "Container image. It must contain Bash.",
                "pattern": "^[A-Za-z0-9][A-Za-z0-9._/:@+-]*$",
                "maxLength": MAX_IMAGE_BYTES,
            },
        },
    })
}

/// Fields of SkyPilot that are accepted and have no effect.
fn ignored_schemas() -> Value {
    // Pydantic's lax conversions accept strings and `true` as numbers.
    let port = json!({"anyOf": [
        {"type": "integer", "minimum": 1, "maximum": 65535},
        {"type": "string", "pattern": "^[1-9][0-9]{0,3}(-[1-5][0-9]{4})?$"},
        {"type": "boolean", "enum": [true]},
    ]});
    json!({
        "instance_type": {"type": ["string", "null"], "description": "Accepted for compatibility; has no effect."},
        "use_spot": {
            "description": "Accepted for compatibility; has no effect.",
            "anyOf": [
                {"type": ["boolean", "null"]},
                {"type": "integer", "enum": [0, 1]},
                {"type": "string", "enum": ["0", "1", "off", "on", "f", "t", "false", "true", "n", "y", "no", "yes"]},
            ],
        },
        "disk_size": {
            "description": "Accepted for compatibility; has no effect.",
            "anyOf": [
                {"type": ["integer", "boolean", "null"]},
                {"type": "string", "pattern": "^[1-9][0-9]{0,5}(GB|Gi)?$"},
            ],
        },
        "ports": {
            "description": "Accepted for compatibility; has no effect.",
            "anyOf": [port.clone(), {"type": "array", "maxItems": MAX_PORTS, "items": port}, {"type": "null"}],
        },
    })
}

fn job_recovery_schema() -> Value {
    json!({
        "description": "When to retry the task after a failure.",
        "anyOf": [
            {"type": ["string", "null"], "enum": ["FAILOVER", "EAGER_NEXT_REGION", "none", null]},
            {
                "type": "object",
                "additionalProperties": false,
                "properties": {
                    "strategy": {"type": ["string", "null"], "enum": ["FAILOVER", "EAGER_NEXT_REGION", "none", null]},
                    "max_restarts_on_errors": {"type": "integer", "minimum": 0, "maximum": 1000, "default": 0},
                    "recover_on_exit_codes": {
                        "anyOf": [
                            {"type": "integer", "minimum": 0, "maximum": 255},
                            {"type": "array", "maxItems": MAX_EXIT_CODES, "items": {"type": "integer", "minimum": 0, "maximum": 255}},
                            {"type": "null"},
                        ],
                    },
                },
            },
        ],
    })
}

fn volume_schema() -> Value {
    json!({
        "type": "object",
        "description": "A volume: storage that outlives the tasks that mount it.",
        "required": ["name", "size"],
        "additionalProperties": false,
        "properties": {
            "name": name_schema(),
            "size": {
                "type": "string",
                "description": "Minimum size. A number without a unit is in GiB.",
                "pattern": "^[1-9][0-9]{0,4}(Mi|Gi|GB)?$",
            },
            "storage_class": {
                "type": ["string", "null"],
                "description": "Storage class. Defaults to the default storage class of the cluster.",
                "pattern": STORAGE_CLASS_PATTERN,
                "minLength": 1,
                "maxLength": name::MAX_LENGTH,
            },
            "access_modes": {
                "description": "Access modes. Defaults to ReadWriteOnce.",
                "anyOf": [
                    {
                        "type": "array",
                        "minItems": 1,
                        "maxItems": MAX_ACCESS_MODES,
                        "items": {"type": "string", "enum": ACCESS_MODES[..3]},
                    },
                    {"type": "array", "minItems": 1, "maxItems": 1, "items": {"type": "string", "enum": [ACCESS_MODES[3]]}},
                    {"type": "null"},
                ],
            },
        },
        "examples": [{"name": "data", "size": "10Gi", "access_modes": ["ReadWriteMany"]}],
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use utoipa::PartialSchema;

    use super::{resources_schema, task_schema, volume_schema};
    use crate::{TaskDefinition, VolumeDefinition};

    /// Whether the parser knows a property. Its errors suggest the nearest known key, so parsing a slightly misspelled
    /// key reveals whether the property is known.
    fn knows(errors: &[crate::ErrorDetail], property: &str) -> bool {
        errors.iter().any(|error| error.msg.contains(&format!("`{property}`")))
    }

    #[test]
    fn the_schemas_are_valid() {
        let _ = (TaskDefinition::schema(), VolumeDefinition::schema());
    }

    #[test]
    fn every_property_of_the_schema_is_a_key_of_the_parser() {
        let keys = |schema: Value| {
            schema["properties"]
                .as_object()
                .unwrap()
                .keys()
                .cloned()
                .collect::<Vec<_>>()
        };
        for key in keys(task_schema()) {
            let errors = TaskDefinition::parse(&json!({ format!("{key}_"): 1 }), 1).unwrap_err();
            assert!(knows(&errors, &key), "{key}");
        }
        for key in keys(resources_schema()) {
            let errors = TaskDefinition::parse(&json!({ "resources": { format!("{key}_"): 1 } }), 1).unwrap_err();
            assert!(knows(&errors, &key), "{key}");
        }
        for key in keys(volume_schema()) {
            let errors = VolumeDefinition::parse(&json!({ format!("{key}_"): 1 })).unwrap_err();
            assert!(knows(&errors, &key), "{key}");
        }
    }
}
