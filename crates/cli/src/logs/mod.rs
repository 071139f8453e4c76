//! Following the log of a task over connections that may break.

mod follow;
mod lines;
mod position;

pub use follow::{End, LogOptions, follow, print_now};
#[cfg(fuzzing)]
pub use lines::{LineStyle, Lines};
