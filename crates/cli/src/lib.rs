//! The CLI of k8s-cli.
//!
//! ```text
//! args (parsing) -> commands -> task_file (parsing and checks) -> client (HTTP API) -> output
//!                       └─────> logs (a stream over several connections)   daemon (the background server)
//! ```

mod args;
mod client;
mod commands;
mod context;
mod daemon;
mod dirs;
mod download;
mod error;
mod field_error;
#[cfg(fuzzing)]
pub mod fuzz;
mod logs;
mod output;
mod report;
mod resources;
mod run;
mod task_file;
mod upload;
mod user;

pub use run::main;
