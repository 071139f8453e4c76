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
#[cfg(fuzzing)]
pub mod fuzz;
mod handlers;
mod held_body;
mod host_guard;
mod limits;
pub mod listener;
mod memory_budget;
mod openapi;
mod paths;
mod router;
mod run;
mod telemetry;

pub use embedded::run_if_container;
pub use run::main;
