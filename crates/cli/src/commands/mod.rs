//! Runs the commands of the CLI, one module each.

pub(crate) mod api;
pub(crate) mod auth;
pub(crate) mod completions;
pub(crate) mod doctor;
pub(crate) mod explain;
pub(crate) mod gpus;
pub(crate) mod jobs;
pub(crate) mod man;
mod remove;
pub(crate) mod usage;
pub(crate) mod volumes;
