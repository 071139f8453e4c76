//! The tasks to submit, from a YAML file, standard input, or a command, with overrides from flags.

mod document;
mod documents;
mod file;
mod git;
mod local_files;
mod overrides;
mod sweep;
mod task_set;
#[cfg(test)]
mod tests;
mod variables;
mod yaml_1_1;

pub(crate) use local_files::{FileSets, LocalPart, LocalSource};
pub(crate) use overrides::Overrides;
pub(crate) use sweep::SweepArgs;
pub(crate) use task_set::{TaskParts, TaskSet};
