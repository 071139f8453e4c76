//! Keeps our objects in memory by watching them, and updates the status of a task with every event.
//!
//! ```text
//! kube-apiserver -> watch -> object (ours, trimmed) -> store (by task, by user) -> snapshot (status, as JSON) -> GET
//! ```

mod aggregate;
mod attempts;
mod cached_resource;
mod change_log;
mod end_cause;
mod entry;
#[cfg(test)]
mod examples;
#[cfg(fuzzing)]
pub(crate) mod fuzz;
mod group_member;
mod health;
mod held;
mod identity;
mod job;
mod listing;
mod load_balancers;
mod members;
mod node_end;
mod object;
mod owner_files;
mod phase;
mod ports;
mod reasons;
mod record_facts;
mod recovery;
mod render;
mod snapshot;
mod state;
mod store;
mod task;
mod task_changes;
mod tombstones;
mod turn;
mod warnings;
mod watch;

pub(crate) use aggregate::{has_completed, unrecorded_end};
pub(crate) use attempts::{Attempts, newest_pods};
pub use change_log::{ChangeCursor, Changes, TaskEvent};
pub(crate) use end_cause::EndCause;
pub(crate) use entry::CacheEntry;
pub(crate) use group_member::{GroupKey, GroupMember};
pub(crate) use health::Health;
pub(crate) use held::HeldJob;
pub(crate) use identity::TaskKey;
pub(crate) use job::{Gang, Job, JobEnd};
pub(crate) use members::Members;
pub(crate) use node_end::NodeEnd;
pub(crate) use object::{Gate, Pod, TaskOwner, Volume};
pub(crate) use owner_files::OwnerFiles;
pub(crate) use phase::Phase;
#[cfg(test)]
pub(crate) use phase::PodEnd;
pub(crate) use reasons::CANCELLED;
#[cfg(test)]
pub(crate) use reasons::Reason;
pub(crate) use record_facts::MAX_DEFINITION;
#[cfg(test)]
pub(crate) use record_facts::RecordFacts;
pub(crate) use recovery::{Restart, due_restart, outcome};
pub(crate) use snapshot::NodePod;
pub use snapshot::TaskSnapshot;
pub(crate) use store::Cache;
pub use store::Counts;
pub(crate) use task::{Task, is_cancelled};
pub(crate) use task_changes::TaskChange;
pub(crate) use turn::{Stage, Turn};
pub(crate) use watch::spawn_watches;
