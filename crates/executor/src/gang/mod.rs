//! Nodes of one task that start together and end together.
//!
//! ```text
//! cache (Jobs and pods of a task) -> decide (pure) -> control (patches of pods and Jobs) -> the kubelet -> the nodes
//! ```
//!
//! Beside that, from time to time: tasks that keep each other from starting (`make_room`), that have no place for too long
//! (`provision`), and whose Job is gone (`missing`).
//!
//! All state is in Kubernetes: a gate is open when a pod has its annotation. So any server goes on where another one
//! stopped, and two of them do the same thing twice without harm. What excludes each other (to begin, to give way, to end for
//! want of a place, to be run again) is first written into the owner of the task (`take_turn`), which only one of them can.

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
