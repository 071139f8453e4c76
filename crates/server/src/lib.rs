//! The REST API of k8s-cli: routes, extractors, errors, OpenAPI, logging, and the listener.

pub mod app;
pub mod args;
mod backend;
mod error;
mod extract;
mod handlers;
mod limits;
pub mod listener;
mod local;
mod openapi;
mod router;
mod run;
mod telemetry;

pub use embedded::entered;
pub use run::main;
