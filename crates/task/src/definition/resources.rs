//! The resources of each node of a task.

use serde::Serialize;
use serde_json::Value;

use super::accelerators::parse_accelerators;
use super::recovery::{Recovery, parse_job_recovery};
use crate::quantity::Quantity;
use crate::validation::{Fields, Validator, coerce};

/// The maximum length of an image reference: a name of 255 bytes, a tag of 128 bytes, and a digest.
/// Source: <https://pkg.go.dev/github.com/distribution/reference>.
pub(super) const MAX_IMAGE_BYTES: usize = 512;

/// The pattern of an image with or without `docker:`, for the OpenAPI document; [`parse_image`] implements the rule. It
/// does not say that the part after `docker:` must start with a letter or digit, too: not every dialect of regular
/// expressions can.
pub(super) const IMAGE_PATTERN: &str = "^[A-Za-z0-9][A-Za-z0-9._/:@+-]*$";

/// The highest TCP port.
const MAX_PORT: i64 = 65_535;

/// The maximum number of ports and port ranges, which have no effect.
const MAX_PORTS: usize = 256;

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
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Resources {
    /// The number of CPUs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<Quantity>,
    /// The amount of memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Quantity>,
    /// The number of GPUs; 0 if none are requested.
    pub gpus: u32,
    /// The container image, without SkyPilot's `docker:` prefix.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// When the task is retried after a failure; `None` disables retries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recovery: Option<Recovery>,
    /// Warnings about fields that have no effect.
    #[serde(skip)]
    pub(super) warnings: Vec<String>,
}

impl Resources {
    pub(super) fn from_value(value: &Value, validator: &mut Validator) -> Option<Self> {
        let mut fields = Fields::from_value(value, validator)?;
        let cpus = fields.optional("cpus", |value, validator| {
            parse_quantity(value, validator, Quantity::parse_cpus)
        });
        let memory = fields.optional("memory", |value, validator| {
            parse_quantity(value, validator, Quantity::parse_memory)
        });
        let accelerators = fields.optional("accelerators", parse_accelerators);
        let instance_type = fields.optional("instance_type", coerce::string);
        let use_spot = fields.optional("use_spot", coerce::boolean);
        let disk_size = fields.optional("disk_size", check_disk_size);
        let ports = fields.optional("ports", check_ports);
        let image = fields.optional("image_id", parse_image);
        let recovery = fields.optional("job_recovery", parse_job_recovery);
        fields.deny_unknown_fields(UNSUPPORTED);

        let mut warnings = Vec::new();
        let mut warn_if = |is_set: bool, key: &str| {
            if is_set {
                warnings.push(format!("`resources.{key}` has no effect on this server"));
            }
        };
        warn_if(instance_type.is_some(), "instance_type");
        warn_if(use_spot == Some(true), "use_spot");
        warn_if(disk_size.is_some(), "disk_size");
        warn_if(ports.is_some(), "ports");
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

fn parse_quantity(
    value: &Value,
    validator: &mut Validator,
    parse: impl FnOnce(&str) -> Result<Quantity, String>,
) -> Option<Quantity> {
    let text = coerce::string_or_number(value, validator)?;
    match parse(&text) {
        Ok(quantity) => Some(quantity),
        Err(reason) => validator.value_error(reason, value),
    }
}

/// Checks a whole number of gigabytes, or a size with a unit.
fn check_disk_size(value: &Value, validator: &mut Validator) -> Option<()> {
    if let Value::String(text) = value
        && let Ok(_) = Quantity::parse_size(text)
    {
        return Some(());
    }
    coerce::integer(value, validator).map(drop)
}

/// Checks a port, a range such as `10052-10100`, or a list of both.
fn check_ports(value: &Value, validator: &mut Validator) -> Option<()> {
    match value {
        Value::Array(_) => coerce::list(value, validator, MAX_PORTS, check_port).map(drop),
        _ => check_port(value, validator),
    }
}

fn check_port(value: &Value, validator: &mut Validator) -> Option<()> {
    let is_port = |port: i64| (1..=MAX_PORT).contains(&port);
    if let Value::String(text) = value
        && let Some((first, last)) = text.split_once('-')
    {
        let bounds = (first.parse::<i64>(), last.parse::<i64>());
        return match bounds {
            (Ok(first), Ok(last)) if is_port(first) && is_port(last) && first <= last => Some(()),
            _ => validator.value_error(
                format!("invalid port range `{text}`; expected, e.g., `8080-8090`"),
                value,
            ),
        };
    }
    let port = coerce::integer(value, validator)?;
    if is_port(port) {
        return Some(());
    }
    validator.value_error(format!("a port must be a number from 1 to {MAX_PORT}"), value)
}

/// SkyPilot marks container images with the prefix `docker:`, because its `image_id` can also be a machine image.
fn parse_image(value: &Value, validator: &mut Validator) -> Option<String> {
    let text = coerce::string(value, validator)?;
    let image = text.strip_prefix("docker:").unwrap_or(&text);
    let is_valid = text.len() <= MAX_IMAGE_BYTES
        && image.starts_with(|first: char| first.is_ascii_alphanumeric())
        && image
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'/' | b':' | b'@' | b'+'));
    if is_valid {
        return Some(image.to_owned());
    }
    validator.value_error(
        format!("invalid image `{text}`; expected, e.g., `python:3.13-slim` or `registry/name:tag`"),
        value,
    )
}
