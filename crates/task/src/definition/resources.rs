//! The resources of each node of a task.

use serde_json::Value;

use super::{Recovery, accelerators, recovery};
use crate::Quantity;
use crate::validation::{self, Cursor, Object};

/// The maximum length of an image reference: a name of 255 bytes, a tag of 128 bytes, and a digest.
/// Source: <https://pkg.go.dev/github.com/distribution/reference>.
pub(super) const MAX_IMAGE_BYTES: usize = 512;

/// The highest TCP port.
const MAX_PORT: i64 = 65_535;

/// The maximum number of ports and port ranges, which have no effect.
pub(super) const MAX_PORTS: usize = 256;

/// Keys of SkyPilot's `resources` that are not supported yet.
/// Source: SkyPilot's `get_resources_schema`, release 0.14.
const UNSUPPORTED: &[&str] = &[
    "infra",
    "cloud",
    "region",
    "zone",
    "gpus",
    "accelerator_args",
    "ephemeral_storage",
    "disk_tier",
    "network_tier",
    "local_disk",
    "max_hourly_cost",
    "labels",
    "autostop",
    "priority",
    "priority_class",
    "any_of",
    "ordered",
];

/// The resources of one node.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Resources {
    /// The number of CPUs.
    pub cpus: Option<Quantity>,
    /// The amount of memory.
    pub memory: Option<Quantity>,
    /// The number of GPUs; 0 if none are requested.
    pub gpus: u32,
    /// The container image, without SkyPilot's `docker:` prefix.
    pub image: Option<String>,
    /// When the task is retried after a failure; `None` disables retries.
    pub recovery: Option<Recovery>,
    /// Warnings about fields that have no effect.
    pub(super) warnings: Vec<String>,
}

impl Resources {
    pub(super) fn read(value: &Value, cursor: &mut Cursor) -> Option<Self> {
        let mut object = Object::open(value, cursor)?;
        let cpus = object.optional("cpus", |value, cursor| quantity(value, cursor, Quantity::cpus));
        let memory = object.optional("memory", |value, cursor| quantity(value, cursor, Quantity::memory));
        let accelerators = object.optional("accelerators", accelerators::read);
        let instance_type = object.optional("instance_type", validation::string);
        let use_spot = object.optional("use_spot", validation::boolean);
        let disk_size = object.optional("disk_size", disk_size);
        let ports = object.optional("ports", ports);
        let image = object.optional("image_id", image);
        let recovery = object.optional("job_recovery", recovery::read).flatten();
        object.finish(UNSUPPORTED);

        let mut warnings = Vec::new();
        let mut ignored = |given: bool, key: &str| {
            if given {
                warnings.push(format!("`resources.{key}` has no effect on this server"));
            }
        };
        ignored(instance_type.is_some(), "instance_type");
        ignored(use_spot == Some(true), "use_spot");
        ignored(disk_size.is_some(), "disk_size");
        ignored(ports.is_some(), "ports");
        if let Some(model) = accelerators
            .as_ref()
            .and_then(|accelerators| accelerators.model.as_ref())
        {
            warnings.push(format!(
                "`resources.accelerators` requests any GPU of the cluster; the model `{model}` is ignored"
            ));
        }
        Some(Self {
            cpus,
            memory,
            gpus: accelerators.map_or(0, |accelerators| accelerators.count),
            image,
            recovery,
            warnings,
        })
    }
}

fn quantity(
    value: &Value,
    cursor: &mut Cursor,
    parse: impl FnOnce(&str) -> Result<Quantity, String>,
) -> Option<Quantity> {
    let text = validation::text_or_number(value, cursor)?;
    match parse(&text) {
        Ok(quantity) => Some(quantity),
        Err(reason) => cursor.refuse(reason, value),
    }
}

/// A whole number of gigabytes, or a size with a unit.
fn disk_size(value: &Value, cursor: &mut Cursor) -> Option<()> {
    if let Value::String(text) = value
        && let Ok(_) = Quantity::size(text)
    {
        return Some(());
    }
    validation::integer(value, cursor).map(drop)
}

/// A port, a range such as `10052-10100`, or a list of both.
fn ports(value: &Value, cursor: &mut Cursor) -> Option<()> {
    match value {
        Value::Array(_) => validation::list(value, cursor, MAX_PORTS, port).map(drop),
        _ => port(value, cursor),
    }
}

fn port(value: &Value, cursor: &mut Cursor) -> Option<()> {
    let valid = |port: i64| (1..=MAX_PORT).contains(&port);
    if let Value::String(text) = value
        && let Some((first, last)) = text.split_once('-')
    {
        let bounds = (first.parse::<i64>(), last.parse::<i64>());
        return match bounds {
            (Ok(first), Ok(last)) if valid(first) && valid(last) && first <= last => Some(()),
            _ => cursor.refuse(
                format!("invalid port range `{text}`; expected, e.g., `8080-8090`"),
                value,
            ),
        };
    }
    let port = validation::integer(value, cursor)?;
    if valid(port) {
        return Some(());
    }
    cursor.refuse(format!("a port must be a number from 1 to {MAX_PORT}"), value)
}

/// SkyPilot marks container images with the prefix `docker:`, because its `image_id` can also be a machine image.
fn image(value: &Value, cursor: &mut Cursor) -> Option<String> {
    let text = validation::string(value, cursor)?;
    let image = text.strip_prefix("docker:").unwrap_or(&text);
    let valid = text.len() <= MAX_IMAGE_BYTES
        && image.starts_with(|first: char| first.is_ascii_alphanumeric())
        && image
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'/' | b':' | b'@' | b'+'));
    if valid {
        return Some(image.to_owned());
    }
    cursor.refuse(
        format!("invalid image `{text}`; expected, e.g., `python:3.13-slim` or `registry/name:tag`"),
        value,
    )
}
