//! The REST API server of k8s-cli: routes, extractors, errors, OpenAPI, logging, and the listener.

pub mod app;
pub mod args;
mod backend;
mod background;
mod caller;
mod error;
mod extract;
#[cfg(fuzzing)]
pub mod fuzz;
mod guard;
mod handlers;
mod host;
mod limits;
pub mod listener;
mod openapi;
mod pace;
mod room;
mod router;
mod run;
mod shares;
mod telemetry;

pub use embedded::run_if_container;
pub use run::main;
