//! Groups of tasks: pipelines, whose tasks run one after the other, and sweeps, whose tasks run side by side.
//!
//! ```text
//! submit (all tasks, held) -> cache -> decide (pure) -> controller (records a start in the owner) -> gang -> the Job
//! ```
//!
//! Each task of a group is a task like any other, with an owner, attempts, and a status, except that it is created
//! *held*: its Jobs are suspended, and its turn says so. No object records the state of a group: which task starts next
//! follows from the tasks. A start is first recorded in the owner of the task, so that of several servers only one
//! succeeds, and any of them completes it.

mod commit;
mod controller;
mod decide;
mod member;
mod roll_forward;
mod submit;
mod undo;

pub(crate) use controller::run;
pub(crate) use roll_forward::run as run_roll_forward;
pub use submit::SubmittedGroup;
pub(crate) use submit::{dry_run, submit};
