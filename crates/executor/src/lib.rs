//! Runs tasks on Kubernetes: manifests, submit, stop, the watch cache, logs, and volumes. Works the same on a cluster
//! and on the embedded engine.

mod archiving;
mod backoff;
mod cache;
mod cluster_nodes;
mod controller;
mod debounce;
mod delivery;
mod dry_run;
mod error;
mod executor;
mod fingerprint;
#[cfg(fuzzing)]
pub mod fuzz;
mod gang;
mod group;
mod history;
mod kubernetes;
pub mod labels;
mod log_throttle;
mod logs;
pub mod manifest;
mod names;
mod namespace;
mod orphans;
mod owned_objects;
mod permissions;
mod placement;
mod pod_config;
mod record_key;
mod rollback;
mod settings;
mod stop;
mod submit;
mod task_list;
pub mod tokens;
mod ttl;
mod unlabeled;
mod usage;
pub mod user_key;
mod volumes;

pub use archiving::ArchiveBacklog;
pub use cache::{ChangeCursor, Changes, Counts, TaskEvent, TaskSnapshot};
pub use delivery::{ADDRESS_FILE, FetchFrom, Fetching, FileAccess, FileSource, MAX_COMPRESSION, Purpose};
pub use dry_run::DryRun;
pub use error::Error;
pub use executor::Executor;
pub use gang::CancelOutcome;
pub use group::SubmittedGroup;
pub use history::ArchivedLog;
/// A connection to Kubernetes, so that the crates above need not depend on `kube`.
pub use kube::Client as KubeClient;
pub use kubernetes::{ObjectRef, client, connect};
pub use logs::{LogOptions, LogTruncated};
pub use namespace::ensure_namespace;
pub use pod_config::{AllowList, FieldPath};
pub use settings::{
    DefaultRequests, Defaults, HelperProgram, KUBELET_SYNC_DELAY, PodSecurity, PodSettings, PortExposure, PortIngress,
    Settings, SharedClaims,
};
pub use submit::{SubmitRequest, Submitted};
pub use task_list::{TaskFilter, TaskList};
