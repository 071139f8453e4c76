//! The resources of each node of a task.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::accelerators::{Accelerators, parse_accelerators};
use super::infra::{self, OtherCloud};
use super::instance_type::{self, InstanceType};
use super::keys::RESOURCES;
use super::metadata::parse_labels;
use super::ports::parse_ports;
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

/// The maximum length of a `PriorityClass`: its name is a DNS subdomain, and in a queue it is also a label value.
pub(super) const MAX_PRIORITY_CLASS_BYTES: usize = 63;

/// The pattern of a `PriorityClass`, for the OpenAPI document; [`parse_priority_class`] implements the rule.
pub(super) const PRIORITY_CLASS_PATTERN: &str = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$";

/// The resources of one node.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Resources {
    /// The number of CPUs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<Quantity>,
    /// The amount of memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Quantity>,
    /// The accelerators.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accelerators: Option<Accelerators>,
    /// Whether to use spot instances only.
    #[serde(skip_serializing_if = "is_false")]
    pub spot: bool,
    /// The amount of local disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<Quantity>,
    /// Labels of the pods.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The container image, without SkyPilot's `docker:` prefix.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The Kubernetes `PriorityClass`, or that of Kueue if the task waits in a queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority_class: Option<String>,
    /// The ports of the first node to expose, in ascending order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<u16>,
    /// When the task is retried after a failure; `None` disables retries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recovery: Option<Recovery>,
}

/// Whether a flag is off, for serde.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(flag: &bool) -> bool {
    !flag
}

/// The value of `resources`, or of one of its alternatives.
pub(super) struct ParsedResources {
    pub resources: Resources,
    /// Set if they ask for another cloud, or for its machines.
    pub elsewhere: Option<OtherCloud>,
}

impl Resources {
    /// The number of accelerators; 0 if none are requested.
    #[must_use]
    pub fn gpus(&self) -> u32 {
        self.accelerators.as_ref().map_or(0, |accelerators| accelerators.count)
    }

    /// Parses resources without alternatives.
    pub(super) fn from_value(value: &Value, validator: &mut Validator) -> Option<ParsedResources> {
        let mut fields = Fields::from_value(value, validator)?;
        let cpus = fields.optional("cpus", |value, validator| {
            parse_quantity(value, validator, Quantity::parse_cpus)
        });
        let memory = fields.optional("memory", parse_memory);
        let accelerators = fields.optional("accelerators", parse_accelerators);
        let gpus = fields.optional("gpus", parse_accelerators);
        for key in ["any_of", "ordered"] {
            fields.optional(key, |value, validator| {
                validator.value_error::<()>("an alternative cannot have alternatives", value)
            });
        }
        let instance_type = fields.optional("instance_type", coerce::string);
        let spot = fields.optional("use_spot", coerce::boolean);
        let disk_size = fields.optional("disk_size", parse_disk_size);
        let ephemeral_storage = fields.optional("ephemeral_storage", parse_disk_size);
        let ports = fields.optional("ports", parse_ports);
        let image = fields.optional("image_id", parse_image);
        let recovery = fields.optional("job_recovery", parse_job_recovery);
        let labels = fields.optional("labels", parse_labels);
        let priority_class = fields.optional("priority_class", parse_priority_class);
        let instance = instance_type.as_deref().and_then(instance_type::parse);
        let foreign = instance_type
            .filter(|_| instance.is_none())
            .map(OtherCloud::of_instance_type);
        let elsewhere = infra::check(&mut fields).or(foreign);
        check_aliases(&mut fields);
        let mut wanted = Wanted {
            cpus,
            memory,
            accelerators: accelerators.or(gpus),
        };
        if let Some(instance) = instance {
            wanted.fill_from(instance);
        }
        let memory = wanted.memory_amount().unwrap_or_else(|reason| {
            fields.value_error("memory", reason);
            None
        });
        RESOURCES.finish(fields);
        let resources = Self {
            cpus: wanted.cpus,
            memory,
            accelerators: wanted.accelerators,
            spot: spot.unwrap_or_default(),
            disk: disk_size.or(ephemeral_storage),
            labels: labels.unwrap_or_default(),
            priority_class,
            ports: ports.unwrap_or_default(),
            image,
            recovery,
        };
        Some(ParsedResources { resources, elsewhere })
    }
}

/// What a node needs, as it is written.
struct Wanted {
    cpus: Option<Quantity>,
    memory: Option<Memory>,
    accelerators: Option<Accelerators>,
}

impl Wanted {
    /// Fills in what the name of an instance type says, and the file does not.
    fn fill_from(&mut self, instance: InstanceType) {
        self.cpus.get_or_insert(instance.cpus);
        self.memory.get_or_insert(Memory::Amount(instance.memory));
        if self.accelerators.is_none() {
            self.accelerators = instance.accelerators;
        }
    }

    /// The amount of memory. Fails if it is a multiple of CPUs that are unknown or too many.
    fn memory_amount(&self) -> Result<Option<Quantity>, String> {
        match (&self.memory, &self.cpus) {
            (None, _) => Ok(None),
            (Some(Memory::Amount(amount)), _) => Ok(Some(amount.clone())),
            (Some(Memory::PerCpu(factor)), Some(cpus)) => factor.gibibytes_times(cpus).map(Some),
            (Some(Memory::PerCpu(_)), None) => Err("a multiple of the CPUs requires `cpus`".to_owned()),
        }
    }
}

/// Reports keys that mean the same.
fn check_aliases(fields: &mut Fields<'_, '_>) {
    if fields.has("gpus") && fields.has("accelerators") {
        fields.value_error("gpus", "`gpus` and `accelerators` are the same; remove one of them");
    }
    if !fields.has("ephemeral_storage") {
        return;
    }
    if fields.has("disk_size") {
        fields.value_error(
            "ephemeral_storage",
            "`ephemeral_storage` is the old name of `disk_size`; remove it",
        );
    } else {
        fields.warn("`resources.ephemeral_storage` is the old name of `disk_size`");
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

/// Parses the size of a disk: a number of gibibytes, or a size with a unit.
fn parse_disk_size(value: &Value, validator: &mut Validator) -> Option<Quantity> {
    let size = match value {
        Value::String(text) if coerce::parse_boolean(text).is_none() => text.clone(),
        _ => coerce::integer(value, validator)?.to_string(),
    };
    match Quantity::parse_size(size.trim()) {
        Ok(size) => Some(size),
        Err(reason) => validator.value_error(reason, value),
    }
}

/// Parses the name of a `PriorityClass`, which is a DNS subdomain. Those of Kubernetes itself are for the system.
fn parse_priority_class(value: &Value, validator: &mut Validator) -> Option<String> {
    let name = coerce::string(value, validator)?;
    let is_part = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    let is_valid = (1..=MAX_PRIORITY_CLASS_BYTES).contains(&name.len())
        && name.bytes().all(is_part)
        && !name.starts_with(['-', '.'])
        && !name.ends_with(['-', '.']);
    if name.starts_with("system-") {
        return validator.value_error(format!("`{name}` is reserved for Kubernetes itself"), value);
    }
    if is_valid {
        return Some(name);
    }
    validator.value_error(
        format!("invalid priority class `{name}`; expected, e.g., `high-priority`"),
        value,
    )
}

/// Parses the amount of memory. `4x` is four GiB per CPU.
fn parse_memory(value: &Value, validator: &mut Validator) -> Option<Memory> {
    let text = coerce::string_or_number(value, validator)?;
    if let Some(factor) = text.strip_suffix('x') {
        return match Quantity::parse_cpus(factor) {
            Ok(factor) => Some(Memory::PerCpu(factor)),
            Err(_) => validator.value_error(
                format!("invalid multiple of the CPUs `{text}`; expected, e.g., `4x`"),
                value,
            ),
        };
    }
    match Quantity::parse_memory(&text) {
        Ok(amount) => Some(Memory::Amount(amount)),
        Err(reason) => validator.value_error(reason, value),
    }
}

/// An amount of memory as it is written.
enum Memory {
    Amount(Quantity),
    /// GiB per CPU.
    PerCpu(Quantity),
}

/// SkyPilot marks container images with the prefix `docker:` or the key `docker`, because its `image_id` can also be a
/// machine image.
fn parse_image(value: &Value, validator: &mut Validator) -> Option<String> {
    let image = match value {
        Value::Object(fields) if fields.len() == 1 => fields.get("docker").filter(|image| image.is_string()),
        _ => None,
    };
    let text = coerce::string(image.unwrap_or(value), validator)?;
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
