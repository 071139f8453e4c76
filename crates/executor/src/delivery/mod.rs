//! Brings the files of a task to its nodes: as immutable ConfigMaps with parts of a tar, which each node unpacks.
//!
//! This needs no image of ours, and no way from a pod to the server.

mod pack;
mod parts;

pub use pack::{FileSource, MAX_COMPRESSION};
pub(crate) use pack::{PackedFiles, resolve};
pub(crate) use parts::create_parts;
