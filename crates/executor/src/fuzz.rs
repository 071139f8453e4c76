//! What must hold for whatever others write into a log, or on an object of the namespace. The targets of `fuzz/` look for inputs
//! that break it.

pub use crate::cache::fuzz::objects;
pub use crate::logs::fuzz::frames;
