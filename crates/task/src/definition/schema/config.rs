//! The schemas of `config`.

use serde_json::{Value, json};

use super::super::config::{MAX_PROVISION_TIMEOUT_SECONDS, MAX_QUEUE_LENGTH, QUEUE_PATTERN};
use super::super::duration::MAX_DURATION_SECONDS;
use super::super::hooks::{DEFAULT_HOOK_TIMEOUT_SECONDS, HOOK_EVENTS, MAX_HOOK_BYTES, MAX_HOOKS};
use super::super::keys;
use super::super::metadata::MAX_ANNOTATION_BYTES;
use super::super::scripts::NO_NUL_PATTERN;
use super::{labels_schema, metadata_schema, reference, with_ignored_keys};

pub(super) fn config_schema() -> Value {
    let schema = json!({
        "type": "object",
        "description": "Settings of a task.",
        "additionalProperties": false,
        "properties": {
            "kubernetes": reference("KubernetesConfig", "Kubernetes settings of the task."),
            "hooks": {
                // A client of openapi-generator for Java sends a list that is not set as `[]`, which is the same.
                "type": "array",
                "description": "Scripts that each node runs, one after the other, before its processes receive SIGTERM.",
                "maxItems": MAX_HOOKS,
                "items": {"$ref": "#/components/schemas/Hook"},
            },
        },
    });
    with_ignored_keys(schema, &keys::CONFIG)
}

pub(super) fn hook_schema() -> Value {
    json!({
        "type": "object",
        "description": "A Bash script that each node runs before its processes receive SIGTERM, in a shell of its own. \
            Its exit code changes nothing.",
        "required": ["run"],
        "additionalProperties": false,
        "properties": {
            "run": {
                "type": "string",
                "description": "Bash script. It has the environment and the directory in which `setup` starts.",
                "pattern": NO_NUL_PATTERN,
                "maxLength": MAX_HOOK_BYTES,
            },
            "events": {
                // A client of openapi-generator for Java sends a list that is not set as `[]` unless it may be null.
                "type": ["array", "null"],
                "description": "SkyPilot's events. Each of them means any SIGTERM. Defaults to all; a hook with none \
                    never runs.",
                "maxItems": HOOK_EVENTS.len(),
                "items": {"type": "string", "enum": HOOK_EVENTS},
            },
            "timeout": {
                "type": "integer",
                "description": format!(
                    "Timeout in seconds. The grace period becomes longer by the timeouts that are set, up to 10 minutes \
                     in all. Defaults to {DEFAULT_HOOK_TIMEOUT_SECONDS}, but no longer than the grace period."
                ),
                "minimum": 1,
                "maximum": MAX_DURATION_SECONDS,
            },
        },
    })
}

pub(super) fn kubernetes_schema() -> Value {
    let schema = json!({
        "type": "object",
        "description": "Kubernetes settings of a task.",
        "additionalProperties": false,
        "properties": {
            "provision_timeout": {
                "type": "integer",
                "description": "Provisioning timeout in seconds: the task fails if its nodes are not all scheduled \
                    within this time. -1 means no timeout.",
                "minimum": -1,
                "maximum": MAX_PROVISION_TIMEOUT_SECONDS,
            },
            "kueue": reference("KueueConfig", "Kueue settings of the task."),
            "pod_config": {
                "type": "object",
                "description": "Fields of the pods, as in a Kubernetes manifest, as far as the operator allows them.",
                "additionalProperties": true,
            },
            "custom_metadata": reference("CustomMetadata", "Labels and annotations of the pods."),
            "remote_identity": {
                "type": "string",
                "description": "Service account of the pods, if the operator lets tasks choose it. SkyPilot's \
                    `SERVICE_ACCOUNT` and `LOCAL_CREDENTIALS` have no effect.",
                "examples": ["my-account", "SERVICE_ACCOUNT", "LOCAL_CREDENTIALS"],
            },
        },
    });
    with_ignored_keys(schema, &keys::KUBERNETES)
}

pub(super) fn custom_metadata_schema() -> Value {
    json!({
        "type": "object",
        "description": "Labels and annotations of the pods.",
        "additionalProperties": false,
        "properties": {
            "labels": labels_schema(),
            "annotations": metadata_schema(
                "Annotations of the pods, of at most 2,000 bytes each. Those of Kubernetes and of this server cannot be \
                 set.",
                &json!({"type": "string", "maxLength": MAX_ANNOTATION_BYTES}),
            ),
        },
    })
}

pub(super) fn kueue_schema() -> Value {
    json!({
        "type": "object",
        "description": "Kueue settings of a task.",
        "additionalProperties": false,
        "properties": {
            "local_queue_name": {
                "type": "string",
                "description": "Kueue LocalQueue to submit the task to.",
                "minLength": 1,
                "maxLength": MAX_QUEUE_LENGTH,
                "pattern": QUEUE_PATTERN,
            },
        },
    })
}
