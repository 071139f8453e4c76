//! Reads and follows logs of tasks, resuming after broken connections.

mod follow;
mod lines;
mod position;

pub use follow::{End, LogOptions, follow, print_now};
#[cfg(fuzzing)]
pub use lines::{LineStyle, Lines};
