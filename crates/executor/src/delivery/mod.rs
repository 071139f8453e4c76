//! Brings the files of a task to its nodes.
//!
//! Small sets become immutable ConfigMaps with parts of a tar, which each node unpacks. This needs no image of ours, and no
//! way from a pod to the server. Nodes fetch larger ones from the server, with a token of the task.

mod access;
mod fetch;
mod pack;
mod parts;
mod queue;
mod release;
mod resolve;
mod token;

pub use access::{FileAccess, Purpose};
pub(crate) use access::{find_access, in_use, share_token};
pub(crate) use fetch::FetchedFiles;
pub use fetch::{ADDRESS_FILE, FetchFrom, Fetching};
pub use pack::{FileSource, MAX_COMPRESSION};
pub(crate) use pack::{PackedFiles, PackedSet};
pub(crate) use parts::{create_sets, part_count, share_sets};
pub(crate) use release::run as run_release;
pub(crate) use resolve::{Delivery, GroupFiles, resolve};
#[cfg(test)]
pub(crate) use token::FilesSecret;
