//! Starts the nodes of a task together, and ends them together.
//!
//! ```text
//! cache (Jobs and pods of a task) -> decide (pure) -> control (patches of pods and Jobs) -> the kubelet -> the nodes
//! ```
//!
//! Three more loops poll the cache: `make_room` resolves deadlocks between gangs that each hold part of what they need,
//! `provision` enforces the provisioning timeout, and `missing` ends gangs that lost a Job.
//!
//! All state is in Kubernetes: a gate is open when the pod has its annotation. Any server can therefore continue where
//! another one stopped, and two servers may safely do the same thing twice. Steps that exclude each other (opening a
//! gate, giving way, ending for lack of resources, starting the next attempt) are first recorded in the owner of the
//! task (`take_turn`), where only one server can win.

mod change;
mod control;
mod decide;
mod fresh;
mod make_room;
mod missing;
mod pauses;
mod provision;
mod room;
mod settling;
mod take_turn;

pub(crate) use control::control;
pub(crate) use make_room::make_room;
pub(crate) use missing::end_incomplete;
pub(crate) use provision::end_unplaced;
