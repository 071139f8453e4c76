//! Support for the end-to-end suite: a server, a client of its API, and access to the cluster behind it.
//!
//! Each test starts its own server, with an embedded Kubernetes or, with `K8S_CLI_E2E_BACKEND=cluster`, in a new
//! namespace of the cluster that `KUBECONFIG` names. `K8S_CLI_API_URL` selects a running server instead.
//!
//! Tests of full disks mount a small disk. Where that is not permitted, they print so and end, unless
//! `K8S_CLI_E2E_MOUNTS` is set, as in CI: then they fail.
#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a test that cannot continue should panic"
)]

mod account;
mod api;
mod backend;
mod bucket;
mod cluster;
mod command_line;
mod deadline;
mod git_server;
mod link;
mod power_cut;
pub mod program;
mod proxy;
mod raw;
mod server;
mod small_disk;
mod task_builder;
mod webhook;
mod world;

pub use account::as_another_account;
pub use api::{Answer, Api};
pub use backend::Backend;
pub use bucket::Bucket;
pub use cluster::Cluster;
pub use command_line::{CommandLine, Ran};
pub use git_server::GitServer;
pub use link::Link;
pub use power_cut::PowerCut;
pub use proxy::Proxy;
pub use raw::{RawAnswer, connect, raw, raw_from, raw_text};
pub use server::{Server, Setting};
pub use small_disk::SmallDisk;
pub use task_builder::{TaskBuilder, small_task};
pub use webhook::Webhook;
pub use world::{World, eventually, from_environment, shims};
