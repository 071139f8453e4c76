//! The OpenAPI schema of a definition, beside the parser whose rules it repeats for other programs.

use std::borrow::Cow;

use serde_json::{Value, json};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::config::{MAX_QUEUE_LENGTH, MAX_SECONDS};
use super::recovery::MAX_CODES;
use super::resources::{MAX_IMAGE_BYTES, MAX_PORTS};
use super::{
    MAX_FILE_MOUNTS, MAX_PATH_BYTES, MAX_SCRIPT_BYTES, MAX_VARIABLE_BYTES, MAX_VARIABLE_NAME_BYTES, MAX_VARIABLES,
    MAX_VOLUMES, TaskDefinition,
};
use crate::quantity::{MAX_CPUS, MAX_MEMORY_GIBIBYTES};
use crate::volume::{ACCESS_MODES, MAX_ACCESS_MODES, STORAGE_CLASS_PATTERN};
use crate::{VolumeDefinition, name};

/// Text that a process can be given has no NUL.
const NO_NUL: &str = "^[^\\u0000]*$";

fn schema(value: Value) -> RefOr<Schema> {
    RefOr::T(serde_json::from_value(value).expect("the schemas below are valid, which a test shows"))
}

impl PartialSchema for TaskDefinition {
    fn schema() -> RefOr<Schema> {
        schema(task())
    }
}

impl ToSchema for TaskDefinition {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("TaskDefinition")
    }
}

impl PartialSchema for VolumeDefinition {
    fn schema() -> RefOr<Schema> {
        schema(volume())
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

fn task() -> Value {
    let mut name = name_schema();
    name["type"] = json!(["string", "null"]);
    json!({
        "type": "object",
        "description": "A task: one or more nodes that run the same bash.",
        "required": ["run"],
        "additionalProperties": false,
        "properties": {
            "name": name,
            "workdir": {
                "type": ["string", "null"],
                "description": "The folder of the container in which setup and run start.",
                "minLength": 1,
                "maxLength": MAX_PATH_BYTES,
                "pattern": "^[^\\u0000-\\u001f\\u007f-\\u009f]+$",
            },
            "num_nodes": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 1},
            "resources": resources(),
            "envs": {
                "type": ["object", "null"],
                "description": "Environment variables of setup and run.",
                "maxProperties": MAX_VARIABLES,
                "propertyNames": {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$", "maxLength": MAX_VARIABLE_NAME_BYTES},
                "additionalProperties": {
                    "type": ["string", "number", "boolean"], "pattern": NO_NUL, "maxLength": MAX_VARIABLE_BYTES,
                },
            },
            "max_duration": {
                "type": ["string", "null"],
                "description": "How long each node may run, such as 90s, 30m or 1h30m.",
                "pattern": "^[1-9][0-9]{0,3}[smh]$",
            },
            "config": config(),
            "file_mounts": {
                "type": ["object", "null"],
                "description": "Accepted, without effect.",
                "maxProperties": MAX_FILE_MOUNTS,
                "additionalProperties": {"type": "string"},
            },
            "volumes": {
                "type": ["object", "null"],
                "description": "Which volume is mounted at which path: the name of one of the user's volumes, or of a PersistentVolumeClaim that belongs to no user.",
                "maxProperties": MAX_VOLUMES,
                "propertyNames": {"type": "string", "pattern": "^(/[A-Za-z0-9_-]+)+$", "maxLength": MAX_PATH_BYTES},
                "additionalProperties": {"type": "string", "minLength": 1},
            },
            "setup": {
                "type": ["string", "null"],
                "description": "Bash that runs before run, in the same shell. When it fails, the node fails.",
                "pattern": NO_NUL,
                "maxLength": MAX_SCRIPT_BYTES,
            },
            "run": {
                "type": "string",
                "description": "The bash that is the task.",
                "pattern": NO_NUL,
                "maxLength": MAX_SCRIPT_BYTES,
            },
        },
        "examples": [
            {"name": "hello", "num_nodes": 3, "run": "echo hello from node $NODE_RANK of $NUM_NODES"},
        ],
    })
}

fn config() -> Value {
    json!({
        "type": ["object", "null"],
        "description": "What the task asks of Kubernetes.",
        "additionalProperties": false,
        "properties": {
            "kubernetes": {
                "type": ["object", "null"],
                "additionalProperties": false,
                "properties": {
                    "provision_timeout": {
                        "type": ["integer", "null"],
                        "description": "Seconds until all nodes must have a place on a machine; else the task fails. -1 is for ever.",
                        "minimum": -1,
                        "maximum": MAX_SECONDS,
                    },
                    "kueue": {
                        "type": ["object", "null"],
                        "additionalProperties": false,
                        "properties": {
                            "local_queue_name": {
                                "type": ["string", "null"],
                                "description": "Kueue's queue that the task waits in.",
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

fn resources() -> Value {
    let quantity = "^[1-9][0-9]{0,5}\\+?$";
    let number = |minimum: f64, maximum: i64| json!({"type": "number", "minimum": minimum, "maximum": maximum});
    let ignored = ignored();
    json!({
        "type": ["object", "null"],
        "description": "What each node needs.",
        "additionalProperties": false,
        "properties": {
            "cpus": {
                "description": "Processors: 4, 0.5, \"500m\" or \"4+\".",
                "anyOf": [
                    {"type": "string", "pattern": quantity},
                    {"type": "string", "pattern": "^[1-9][0-9]{0,5}m$"},
                    number(0.001, MAX_CPUS),
                    {"type": "null"},
                ],
            },
            "memory": {
                "description": "Memory: a number is GiB; \"16GB\", \"16Gi\" and \"512Mi\" are taken, too.",
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
            "job_recovery": job_recovery(),
            "image_id": {
                "type": ["string", "null"],
                "description": "The image; bash must be in it.",
                "pattern": "^[A-Za-z0-9][A-Za-z0-9._/:@+-]*$",
                "maxLength": MAX_IMAGE_BYTES,
            },
        },
    })
}

/// What SkyPilot knows and has no effect here.
fn ignored() -> Value {
    // Pydantic's conversions make a number of text and of `true`.
    let port = json!({"anyOf": [
        {"type": "integer", "minimum": 1, "maximum": 65535},
        {"type": "string", "pattern": "^[1-9][0-9]{0,3}(-[1-5][0-9]{4})?$"},
        {"type": "boolean", "enum": [true]},
    ]});
    json!({
        "instance_type": {"type": ["string", "null"], "description": "Accepted, without effect."},
        "use_spot": {
            "description": "Accepted, without effect.",
            "anyOf": [
                {"type": ["boolean", "null"]},
                {"type": "integer", "enum": [0, 1]},
                {"type": "string", "enum": ["0", "1", "off", "on", "f", "t", "false", "true", "n", "y", "no", "yes"]},
            ],
        },
        "disk_size": {
            "description": "Accepted, without effect.",
            "anyOf": [
                {"type": ["integer", "boolean", "null"]},
                {"type": "string", "pattern": "^[1-9][0-9]{0,5}(GB|Gi)?$"},
            ],
        },
        "ports": {
            "description": "Accepted, without effect.",
            "anyOf": [port.clone(), {"type": "array", "maxItems": MAX_PORTS, "items": port}, {"type": "null"}],
        },
    })
}

fn job_recovery() -> Value {
    json!({
        "description": "When a task that failed is run again.",
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
                            {"type": "array", "maxItems": MAX_CODES, "items": {"type": "integer", "minimum": 0, "maximum": 255}},
                            {"type": "null"},
                        ],
                    },
                },
            },
        ],
    })
}

fn volume() -> Value {
    json!({
        "type": "object",
        "description": "A volume: storage that outlives the tasks which mount it.",
        "required": ["name", "size"],
        "additionalProperties": false,
        "properties": {
            "name": name_schema(),
            "size": {
                "type": "string",
                "description": "How large it is at least; a number without a unit is GiB.",
                "pattern": "^[1-9][0-9]{0,4}(Mi|Gi|GB)?$",
            },
            "storage_class": {
                "type": ["string", "null"],
                "description": "The storage class; the cluster's default when absent.",
                "pattern": STORAGE_CLASS_PATTERN,
                "minLength": 1,
                "maxLength": name::MAX_LENGTH,
            },
            "access_modes": {
                "description": "How it may be mounted; null is ReadWriteOnce.",
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

    use super::{resources, task, volume};
    use crate::{TaskDefinition, VolumeDefinition};

    /// The parser names the nearest known key, so an unknown key next to each property shows that it knows the property.
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
        for key in keys(task()) {
            let errors = TaskDefinition::parse(&json!({ format!("{key}_"): 1 }), 1).unwrap_err();
            assert!(knows(&errors, &key), "{key}");
        }
        for key in keys(resources()) {
            let errors = TaskDefinition::parse(&json!({ "resources": { format!("{key}_"): 1 } }), 1).unwrap_err();
            assert!(knows(&errors, &key), "{key}");
        }
        for key in keys(volume()) {
            let errors = VolumeDefinition::parse(&json!({ format!("{key}_"): 1 })).unwrap_err();
            assert!(knows(&errors, &key), "{key}");
        }
    }
}
