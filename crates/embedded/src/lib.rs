//! Kubernetes on one machine, in this process.
//!
//! An [`Engine`] is an API server, its controllers and one node. [`Engine::router`] is its API: `kube::Client` stands on it
//! without a socket, and [`Engine::listen`] serves it to `kubectl`. Pods are processes of this machine: the host is their
//! image. Everything is kept in one folder and survives the process, and so do the containers.
//!
//! A [`ControlPlane`] is the same without the node, in memory: for simulations, which run on a paused clock.
//!
//! A program that starts an engine must call [`entered`] first: it is also the program that supervises the containers.

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
