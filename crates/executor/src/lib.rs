//! Runs tasks on Kubernetes: manifests, submit, stop, the watch cache, logs, volumes. It does not know which Kubernetes.

mod cache;
mod error;
mod executor;
mod expire;
mod gang;
mod kubernetes;
pub mod labels;
mod logs;
pub mod manifest;
mod nodes;
mod stop;
mod submit;
mod suspicions;
mod sweep;
mod ticks;
mod volumes;

pub use cache::{Counts, View};
pub use error::Error;
pub use executor::{Defaults, Executor};
pub use kubernetes::connect;
pub use logs::LogOptions;
pub use submit::Request;
