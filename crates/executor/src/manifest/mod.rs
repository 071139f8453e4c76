//! Builds the Kubernetes objects of tasks and volumes, with pure functions.

mod alternatives;
mod attempt;
mod copies;
mod definition;
mod environment;
mod escape;
mod fetch;
mod files;
mod gang;
mod git_clone;
mod hooks;
mod job;
mod node_selection;
mod outputs;
mod owner;
mod port_ingress;
mod port_service;
mod process_one;
mod program;
mod queue;
mod quoting;
mod script;
mod secrets;
mod security;
mod service;
mod submission;
mod unkept;
mod volume;
mod working_dir;

pub use attempt::next_attempt;
pub use environment::environment;
pub(crate) use files::PART_KEY;
pub use job::job;
pub use owner::owner;
pub(crate) use port_ingress::PORT_PLACEHOLDER;
pub use port_ingress::port_ingress;
pub use port_service::port_service;
pub use script::{SCRIPT_DIR, SCRIPT_KEY};
pub use secrets::{redacted, secrets};
pub use service::service;
pub use submission::{Submission, SubmissionGroup};
pub use volume::claim;

#[cfg(test)]
mod tests;
