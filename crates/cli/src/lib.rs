//! The CLI of k8s-cli.
//!
//! ```text
//! args (parsing) -> commands -> task_file (parsing and checks) -> client (HTTP API) -> output
//!                       └─────> logs (a stream over several connections)   local (the background server)
//! ```

mod args;
mod client;
mod commands;
mod context;
mod error;
mod folders;
#[cfg(fuzzing)]
pub mod fuzz;
mod local;
mod logs;
mod output;
mod run;
mod task_file;
mod things;
mod user;

pub use run::main;
