//! What the end-to-end suite is written with: a server, a client of its API, and a look at the cluster behind it.
//!
//! `K8S_CLI_API_URL` names a running server; without it each test starts its own, in a namespace of its own. The cluster
//! is the one that `KUBECONFIG` names.
#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a test that cannot go on shall panic"
)]

mod api;
mod cluster;
mod raw;
mod server;
mod world;

pub use api::{Answer, Api};
pub use cluster::Cluster;
pub use raw::{RawAnswer, raw};
pub use server::Server;
pub use world::{World, eventually, repetitions};
