//! Entry points of the fuzz targets in `fuzz/`: invariants for any log content, and for any object in the namespace.

pub use crate::cache::fuzz::objects;
pub use crate::logs::fuzz::frames;
