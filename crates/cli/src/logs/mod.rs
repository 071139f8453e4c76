//! Reads and follows logs of tasks, resuming after broken connections.

mod follow;
mod formatter;
mod position;

pub(crate) use follow::{LogEnd, LogOptions, follow_log, print_log};
#[cfg(fuzzing)]
pub(crate) use formatter::{LineStyle, LogFormatter};
