//! A small Kubernetes for one machine, embedded in this process.
//!
//! An [`Engine`] is an API server with its controllers and one node. [`Engine::router`] is the API: `kube::Client`
//! calls it without a socket, and [`Engine::listen`] serves it to `kubectl`. Pods are processes of this machine, and
//! the host's files take the place of an image. All state lives in one directory and outlives the process; so do
//! running containers.
//!
//! A [`ControlPlane`] is the same without the kubelet, and keeps its state in memory. Simulations run it on a paused
//! clock.
//!
//! Programs that start an engine must call [`run_if_container`] first: the engine executes the same program again to
//! supervise containers.

mod api;
mod blocking;
mod bootstrap;
mod container;
mod control_plane;
mod controllers;
mod disk;
mod engine;
mod error;
mod field_errors;
mod files;
#[cfg(fuzzing)]
pub mod fuzz;
mod kubectl;
mod kubelet;
mod object;
mod own_program;
mod random;
mod resources;
mod selector;
mod state_dir;
mod status_error;
mod store;

pub use container::{raise_file_limit, run_if_container};
pub use control_plane::{ControlPlane, NodeCapacity};
pub use engine::{Engine, EngineOptions, default_state_dir};
pub use error::Error;
