//! Keeps our objects in memory by watching them, and updates the status of a task with every event.
//!
//! ```text
//! kube-apiserver -> watch -> object (ours, trimmed) -> store (by task, by user) -> view (status, as JSON) -> GET
//! ```

mod aggregate;
mod attempts;
#[cfg(test)]
mod examples;
#[cfg(fuzzing)]
pub mod fuzz;
mod gang_task;
mod graves;
mod health;
mod identity;
mod job;
mod kept;
mod members;
mod object;
mod phase;
mod reasons;
mod recovery;
mod render;
mod state;
mod store;
mod task;
mod turn;
mod view;
mod warnings;
mod watch;

pub use aggregate::has_completed;
pub use gang_task::GangTask;
pub use health::Health;
pub use identity::TaskKey;
pub use job::{Gang, Job, JobEnd};
pub use object::{Pod, TaskOwner, Volume};
pub use phase::Phase;
#[cfg(test)]
pub use phase::{PodEnd, Reason};
#[cfg(test)]
pub use recovery::Restart;
pub use store::{Cache, Counts};
pub use turn::{Stage, Turn};
pub use view::{NodePod, View};
pub use watch::watch;
