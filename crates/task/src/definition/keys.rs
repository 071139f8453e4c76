//! Every key of SkyPilot's task file, and what this server makes of it.
//!
//! The parsers, the warnings, the errors, `k8s-cli explain`, and `docs/TASK_FILE.md` all use these tables.
//! Source: SkyPilot's `get_task_schema`, `get_resources_schema`, and `get_config_schema`, release 0.14.

mod config;
mod key;
mod resources;
mod task;

pub use config::{CONFIG, CUSTOM_METADATA, HOOKS, KUBERNETES, KUEUE};
pub use key::{Check, Key, Section, Support};
pub use resources::{JOB_RECOVERY, RESOURCES};
pub use task::TASK;

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
