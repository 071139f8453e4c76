//! A small Kubernetes for one machine, embedded in this process.
//!
//! An [`Engine`] is an API server with its controllers and one node. [`Engine::router`] is the API: `kube::Client`
//! calls it without a socket, and [`Engine::listen`] serves it to `kubectl`. Pods are processes of this machine, and
//! the host's files take the place of an image. All state lives in one directory and outlives the process; so do
//! running containers.
//!
//! A [`ControlPlane`] is the same without the node, and keeps its state in memory. Simulations run it on a paused
//! clock.
//!
//! Programs that start an engine must call [`entered`] first: the engine executes the same program again to supervise
//! containers.

mod api;
mod aside;
mod container;
mod control_plane;
mod controllers;
mod disk;
mod engine;
mod error;
mod files;
mod furniture;
#[cfg(fuzzing)]
pub mod fuzz;
mod kubeconfig;
mod listen;
mod node;
mod object;
mod random;
mod refusal;
mod resources;
mod state;
mod store;

pub use container::{entered, raise_file_limit};
pub use control_plane::{ControlPlane, Machine};
pub use engine::{Engine, Options, state_folder};
pub use error::Error;
