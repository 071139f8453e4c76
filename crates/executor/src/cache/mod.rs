//! Keeps our objects in memory by watching them, and updates the status of a task with every event.
//!
//! ```text
//! kube-apiserver -> watch -> object (ours, trimmed) -> store (by task, by user) -> snapshot (status, as JSON) -> GET
//! ```

mod aggregate;
mod attempts;
mod cached_resource;
mod entry;
#[cfg(test)]
mod examples;
#[cfg(fuzzing)]
pub mod fuzz;
mod health;
mod identity;
mod job;
mod members;
mod object;
mod phase;
mod reasons;
mod recovery;
mod render;
mod snapshot;
mod state;
mod store;
mod task;
mod tombstones;
mod turn;
mod warnings;
mod watch;

pub use aggregate::has_completed;
pub use attempts::{Attempts, newest_pods};
pub use entry::CacheEntry;
pub use health::Health;
pub use identity::TaskKey;
pub use job::{Gang, Job, JobEnd};
pub use members::Members;
pub use object::{Gate, Pod, TaskOwner, Volume};
pub use phase::Phase;
#[cfg(test)]
pub use phase::PodEnd;
#[cfg(test)]
pub use reasons::Reason;
pub use recovery::{Restart, due_restart};
pub use snapshot::{NodePod, TaskSnapshot};
pub use store::{Cache, Counts};
pub use task::Task;
pub use turn::{Stage, Turn};
pub use watch::spawn_watches;
