//! Nodes of one task that start together and end together.
//!
//! ```text
//! cache (Jobs and pods of a task) -> decide (pure) -> control (patches of pods and Jobs) -> the kubelet -> the nodes
//! ```
//!
//! All state is in Kubernetes: a gate is open when a pod has its annotation. So any server goes on where another one
//! stopped, and two of them do the same thing twice without harm.

mod control;
mod decide;
mod make_room;
mod pauses;
mod room;

pub(crate) use control::control;
pub(crate) use make_room::make_room;
