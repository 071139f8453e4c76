//! The definition of a task, as a user submits it.

mod accelerators;
mod config;
mod duration;
mod recovery;
mod resources;
mod schema;

use std::time::Duration;

use serde_json::Value;

pub use config::{KubernetesConfig, ProvisionTimeout};
pub use duration::{MAX_SECONDS, parse_duration};
pub use recovery::{MAX_RESTARTS, Recovery};
pub use resources::Resources;

use crate::Name;
use crate::validation::{self, Cursor, ErrorDetail, Object};

/// The maximum size of `setup` and of `run`, in bytes. Both are stored in one Kubernetes object, which etcd limits to
/// 1.5 MiB (<https://etcd.io/docs/latest/dev-guide/limit/>).
pub const MAX_SCRIPT_BYTES: usize = 500_000;

/// The maximum number of nodes per task.
pub const MAX_NODES: u32 = 1000;

/// The maximum size of all environment variables together, in bytes; see [`MAX_SCRIPT_BYTES`].
pub const MAX_VARIABLES_BYTES: usize = 1_000_000;

/// The maximum number of environment variables. With more, a shell takes seconds to start.
const MAX_VARIABLES: usize = 10_000;

/// The maximum number of volumes. Each is a mount, and nested mounts take the container runtime quadratic time.
const MAX_VOLUMES: usize = 100;

/// The maximum number of file mounts, which have no effect.
const MAX_FILE_MOUNTS: usize = 1000;

/// The maximum size of a single argument or variable on Linux, in bytes: `MAX_ARG_STRLEN` (32 pages) minus the
/// terminating NUL.
pub const MAX_ARGUMENT_BYTES: usize = 128 * 1024 - 1;

/// The maximum length of a variable name: it may become a key of a ConfigMap.
const MAX_VARIABLE_NAME_BYTES: usize = 253;

/// The maximum length of a variable's value: with the name and `=`, it must fit into [`MAX_ARGUMENT_BYTES`].
const MAX_VARIABLE_BYTES: usize = 130_000;

/// The maximum length of a path on Linux: `PATH_MAX` minus the terminating NUL.
const MAX_PATH_BYTES: usize = 4095;

/// Keys of SkyPilot's task file that are not supported yet.
/// Source: SkyPilot's `get_task_schema`, release 0.14.
const UNSUPPORTED: &[&str] = &[
    "secrets",
    "managed_secrets",
    "service",
    "pool",
    "api_server_access",
    "event_callback",
    "inputs",
    "outputs",
    "file_mounts_mapping",
    "volume_mounts",
    "experimental",
];

/// A valid task.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskDefinition {
    /// The name of the task.
    pub name: Option<Name>,
    /// The directory in the container in which `setup` and `run` start.
    pub workdir: Option<String>,
    /// The number of nodes; at least 1.
    pub num_nodes: u32,
    /// The resources of each node.
    pub resources: Resources,
    /// Environment variables, in the order of the definition.
    pub envs: Vec<(String, String)>,
    /// Volumes, in the order of the definition.
    pub volumes: Vec<VolumeMount>,
    /// The Bash script that runs before `run` and must succeed.
    pub setup: Option<String>,
    /// The Bash script of the task.
    pub run: String,
    /// The time limit of each node; if absent, the server's default applies.
    pub max_duration: Option<Duration>,
    /// Kubernetes settings.
    pub kubernetes: KubernetesConfig,
    /// Warnings for the user about fields that have no effect.
    pub warnings: Vec<String>,
}

/// A volume and its mount path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeMount {
    /// The mount path: an absolute path in the container.
    pub path: String,
    /// The name of one of the user's volumes, or of a PersistentVolumeClaim.
    pub volume: String,
}

impl TaskDefinition {
    /// Parses a definition from a request body, and reports every error in it. `max_nodes` is the limit of the server.
    pub fn parse(body: &Value, max_nodes: u32) -> Result<Self, Vec<ErrorDetail>> {
        validation::parse(body, "body", |value, cursor| Self::read(value, cursor, max_nodes))
    }

    /// The size of all environment variables together, including their names, in bytes.
    #[must_use]
    pub fn variables_bytes(&self) -> usize {
        bytes_of(&self.envs)
    }

    fn read(value: &Value, cursor: &mut Cursor, max_nodes: u32) -> Option<Self> {
        let start = cursor.mark();
        let mut object = Object::open(value, cursor)?;
        let name = object.optional("name", Name::parse);
        let workdir = object.optional("workdir", workdir);
        let num_nodes = object.with_default("num_nodes", 1, num_nodes);
        let mut resources = object.optional("resources", Resources::read).unwrap_or_default();
        let envs = object.optional("envs", envs).unwrap_or_default();
        let file_mounts = object.has("file_mounts");
        object.optional("file_mounts", file_mount_map);
        let volumes = object.optional("volumes", volume_mounts).unwrap_or_default();
        let setup = object.optional("setup", script);
        let run = object.required("run", script);
        let max_duration = object.optional("max_duration", duration::read);
        let kubernetes = object.optional("config", config::read).unwrap_or_default();
        object.finish(UNSUPPORTED);

        let (num_nodes, run) = (num_nodes?, run?);
        // Check the limits of this server last, and only if there are no other errors: the reference implementation
        // does not have them, and its clients expect exactly its errors.
        if !cursor.clean_since(start) {
            return None;
        }
        let num_nodes = within_max_nodes(num_nodes, max_nodes, value, cursor)?;
        within_variables_limit(&envs, value, cursor)?;
        let mut warnings = std::mem::take(&mut resources.warnings);
        let taken = envs.iter().filter(|(name, _)| is_set_by_us(name));
        warnings.extend(
            taken.map(|(name, _)| format!("`envs.{name}` is ignored; the server sets this variable for each node")),
        );
        if file_mounts {
            warnings.push("`file_mounts` has no effect; store the data in a volume".to_owned());
        }
        Some(Self {
            name,
            workdir,
            num_nodes,
            resources,
            envs,
            volumes,
            setup,
            run,
            max_duration,
            kubernetes,
            warnings,
        })
    }
}

fn num_nodes(value: &Value, cursor: &mut Cursor) -> Option<i64> {
    let nodes = validation::integer(value, cursor)?;
    if nodes >= 1 {
        return Some(nodes);
    }
    cursor.report_with(
        "greater_than_equal",
        "Input should be greater than or equal to 1",
        value,
        serde_json::json!({ "ge": 1 }),
    )
}

fn within_max_nodes(nodes: i64, max_nodes: u32, body: &Value, cursor: &mut Cursor) -> Option<u32> {
    match u32::try_from(nodes) {
        Ok(nodes) if nodes <= max_nodes => Some(nodes),
        _ => cursor.within("num_nodes", |cursor| {
            cursor.report_with(
                "less_than_equal",
                format!("Input should be less than or equal to {max_nodes}"),
                &body["num_nodes"],
                serde_json::json!({ "le": max_nodes }),
            )
        }),
    }
}

fn bytes_of(envs: &[(String, String)]) -> usize {
    envs.iter().map(|(name, text)| name.len() + text.len()).sum()
}

fn within_variables_limit(envs: &[(String, String)], body: &Value, cursor: &mut Cursor) -> Option<()> {
    let bytes = bytes_of(envs);
    if bytes <= MAX_VARIABLES_BYTES {
        return Some(());
    }
    cursor.within("envs", |cursor| {
        cursor.refuse(
            format!(
                "environment variables exceed the limit of {MAX_VARIABLES_BYTES} bytes ({bytes} bytes); store the \
                 data in a volume"
            ),
            &body["envs"],
        )
    })
}

/// Rejects text that cannot be passed to a process: on Linux, arguments and variables end at a NUL.
fn argument(value: &Value, cursor: &mut Cursor, text: String) -> Option<String> {
    if text.contains('\0') {
        return cursor.refuse(
            "must not contain a NUL character, which cannot be passed to a process",
            value,
        );
    }
    Some(text)
}

fn script(value: &Value, cursor: &mut Cursor) -> Option<String> {
    let text = validation::string(value, cursor)?;
    if text.len() > MAX_SCRIPT_BYTES {
        let bytes = text.len();
        return cursor.refuse(
            format!(
                "the script exceeds the limit of {MAX_SCRIPT_BYTES} bytes ({bytes} bytes); store it in a volume or in \
                 the image"
            ),
            value,
        );
    }
    argument(value, cursor, text)
}

fn workdir(value: &Value, cursor: &mut Cursor) -> Option<String> {
    let path = validation::string(value, cursor)?;
    if path.is_empty() || path.len() > MAX_PATH_BYTES || path.chars().any(char::is_control) {
        return cursor.refuse(
            format!("a directory must be 1 to {MAX_PATH_BYTES} bytes long, without control characters"),
            value,
        );
    }
    Some(path)
}

fn envs(value: &Value, cursor: &mut Cursor) -> Option<Vec<(String, String)>> {
    validation::map(value, cursor, MAX_VARIABLES, |name, value, cursor| {
        let text = match value {
            // SkyPilot converts values with Python's `str`, which capitalizes booleans.
            Value::Bool(true) => "True".to_owned(),
            Value::Bool(false) => "False".to_owned(),
            _ => validation::text_or_number(value, cursor)?,
        };
        if !is_variable_name(name) {
            return cursor.refuse(
                format!(
                    "invalid environment variable name `{name}`; use letters, digits, and `_`, and don't start with a \
                     digit"
                ),
                value,
            );
        }
        if name.len() > MAX_VARIABLE_NAME_BYTES || text.len() > MAX_VARIABLE_BYTES {
            return cursor.refuse(
                format!(
                    "a value must be at most {MAX_VARIABLE_BYTES} bytes, and a name at most {MAX_VARIABLE_NAME_BYTES}; \
                     store the data in a volume"
                ),
                value,
            );
        }
        Some((name.to_owned(), argument(value, cursor, text)?))
    })
}

/// Whether `executor` sets this variable on each node.
fn is_set_by_us(name: &str) -> bool {
    const OURS: [&str; 5] = [
        "NODE_RANK",
        "NUM_NODES",
        "SKYPILOT_NODE_RANK",
        "SKYPILOT_NUM_NODES",
        "SKYPILOT_TASK_ID",
    ];
    OURS.contains(&name)
}

fn is_variable_name(name: &str) -> bool {
    !name.starts_with(|first: char| first.is_ascii_digit())
        && !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Checks only the format of file mounts, because copying files is not supported yet.
fn file_mount_map(value: &Value, cursor: &mut Cursor) -> Option<Vec<String>> {
    validation::map(value, cursor, MAX_FILE_MOUNTS, |_, value, cursor| {
        validation::string(value, cursor)
    })
}

fn volume_mounts(value: &Value, cursor: &mut Cursor) -> Option<Vec<VolumeMount>> {
    validation::map(value, cursor, MAX_VOLUMES, |path, value, cursor| {
        let volume = validation::string(value, cursor)?;
        if volume.is_empty() {
            return cursor.refuse("missing volume name", value);
        }
        if let Some(reason) = mount_path_fault(path) {
            return cursor.refuse(reason, value);
        }
        Some(VolumeMount {
            path: path.to_owned(),
            volume,
        })
    })
}

/// Why Kubernetes or the container runtime would reject a mount path.
fn mount_path_fault(path: &str) -> Option<String> {
    let fault = if !path.starts_with('/') {
        "must start with `/`"
    } else if path.trim_matches('/').is_empty() {
        "must not be the root directory"
    } else if is_reserved(path) {
        "must not be in a reserved directory: /proc, /sys, /dev, /etc/k8s-cli"
    } else if path.contains(':') {
        "must not contain `:`"
    } else if path.split('/').any(|part| part == "..") {
        "must not contain `..`"
    } else if path.len() > MAX_PATH_BYTES || path.chars().any(char::is_control) {
        "must not be too long or contain control characters"
    } else {
        return None;
    };
    Some(format!("the mount path {fault}"))
}

/// Whether a container needs the contents of a path. A volume mounted there would break the container.
fn is_reserved(path: &str) -> bool {
    const SYSTEMS: [&str; 2] = ["proc", "sys"];
    let mut parts = path.split('/').filter(|part| !matches!(*part, "" | "."));
    match (parts.next(), parts.next()) {
        (Some(first), _) if SYSTEMS.contains(&first) => true,
        // Mounting a volume for shared memory is common.
        (Some("dev"), below) => below != Some("shm"),
        (Some("etc"), Some(below)) => below.starts_with("k8s-cli"),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
