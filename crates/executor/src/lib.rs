//! Runs tasks on Kubernetes: manifests, submit, stop, the watch cache, logs, and volumes. Works the same on a cluster
//! and on the embedded engine.

mod backoff;
mod cache;
mod error;
mod executor;
mod expire;
mod folded;
#[cfg(fuzzing)]
pub mod fuzz;
mod gang;
mod hidden;
mod kubernetes;
pub mod labels;
mod logs;
pub mod manifest;
mod namespace;
mod nodes;
mod rights;
mod settings;
mod stop;
mod submit;
mod suspicions;
mod sweep;
mod ticks;
mod undo;
mod volumes;

pub use cache::{Counts, View};
pub use error::Error;
pub use executor::Executor;
/// A connection to Kubernetes, so that the crates above need not depend on `kube`.
pub use kube::Client as KubeClient;
pub use kubernetes::{client, connect};
pub use logs::{LogCut, LogOptions};
pub use namespace::ensure_namespace;
pub use settings::{Defaults, KUBELET_HEARS_WITHIN, PodSecurity, PodSettings, Settings, SharedClaims};
pub use submit::{DryRun, Request, Submitted};
