//! Keeps the records and logs of tasks in the archive.
//!
//! ```text
//! cache: a task became visible -> task_archiver (one per task) -> pod_archiver (one per pod) -> frames
//!                                 the task ended, or is gone   -> record
//! ```
//!
//! Every server does this for every task. Objects in the archive are written only if they are absent, so what one server
//! has written, the others do not write again.

mod archiver;
mod context;
mod frame_buffer;
mod notice;
mod pod_archiver;
mod progress;
mod record;
mod store_health;
mod task_archiver;

pub use archiver::ArchiveBacklog;
pub(crate) use archiver::Archiver;
pub(crate) use record::{final_record, live_record};
