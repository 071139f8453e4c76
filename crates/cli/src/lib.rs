//! The command line of k8s-cli.
//!
//! ```text
//! args (what was typed) -> commands -> task_file (what shall run) -> client (the server's API) -> output
//!                              └─────> logs (a stream over several connections)   local (a server of one's own)
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
