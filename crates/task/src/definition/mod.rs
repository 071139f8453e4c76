//! The definition of a task: its types and their parsers.

mod accelerators;
mod alternatives;
mod config;
mod copies;
mod duration;
mod envs;
mod file_mounts;
mod files;
mod git;
mod group_definition;
mod hooks;
mod ignored;
mod infra;
mod instance_type;
pub mod keys;
mod metadata;
mod outputs;
mod ports;
mod recovery;
mod resources;
mod schema;
mod scripts;
mod secrets;
mod substitution;
mod task_definition;
mod volume_mounts;
mod workdir;

pub use accelerators::{Accelerators, Vendor};
pub use alternatives::Alternatives;
pub use config::{KubernetesConfig, ProvisionTimeout};
pub use copies::{CopyMount, CopySource};
pub use duration::{MAX_DURATION_SECONDS, parse_duration};
pub use envs::{MAX_VARIABLES_BYTES, is_reserved_variable};
pub use files::{FileMount, FileSetId, Target};
pub use git::{GitRef, GitUrl, SSH_KEY_VARIABLE, TOKEN_VARIABLE, Transport};
pub use group_definition::{Execution, GroupDefinition, MAX_GROUP_NODES, MAX_GROUP_TASKS};
pub use hooks::{DEFAULT_HOOK_TIMEOUT_SECONDS, Hook};
pub use metadata::{Metadata, key_error};
pub use outputs::{Output, parse_output_name};
pub use recovery::{MAX_RESTARTS, Recovery};
pub use resources::Resources;
pub use scripts::{MAX_ARGUMENT_BYTES, MAX_SCRIPT_BYTES};
pub use secrets::{REDACTED, RegistryLogin, Secret};
pub use substitution::fill_text;
pub use task_definition::{MAX_NODES, TaskDefinition};
pub use volume_mounts::{EphemeralVolume, VolumeMount, VolumeSource, mount_path_error};
pub use workdir::{Repository, Workdir};

#[cfg(test)]
mod tests;
