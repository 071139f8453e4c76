//! Brings the files of a task to its nodes: as immutable ConfigMaps with parts of a tar, which each node unpacks.
//!
//! This needs no image of ours, and no way from a pod to the server.

mod pack;
mod parts;
mod release;

pub use pack::{FileSource, MAX_COMPRESSION};
pub(crate) use pack::{PackedFiles, PackedSet, resolve};
pub(crate) use parts::{create_sets, share_sets};
pub(crate) use release::run as run_release;
