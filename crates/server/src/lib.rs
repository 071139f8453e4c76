//! The REST API server of k8s-cli: routes, extractors, errors, OpenAPI, logging, and the listener.

mod access;
pub mod app;
pub mod args;
mod backend;
mod client;
mod compression;
mod concurrency_limit;
mod conditional;
mod connection;
mod detach;
mod error;
mod extract;
mod file_sets;
#[cfg(fuzzing)]
pub mod fuzz;
mod handlers;
mod held_body;
mod host_guard;
mod known_paths;
mod limits;
pub mod listener;
mod memory_budget;
mod openapi;
mod router;
mod run;
mod task_files;
mod task_token;
mod telemetry;

/// Runs this process as a part of a container of this machine, or as the program that fetches files in one, if it was
/// started as such.
#[must_use]
pub fn run_if_in_container() -> Option<std::process::ExitCode> {
    embedded::run_if_container().or_else(helper::run_if_helper)
}

pub use run::main;
