//! A folder as a manifest and contents: what is in it, and the bytes of its files, each named by its hash.
mod content;
mod entry;
mod entry_path;
mod error;
mod hash;
mod heaviest;
mod limits;
mod manifest;
mod text;
mod tree;

pub use content::{Content, MAX_CONTENT, MIN_CONTENT, split};
pub use entry::{Entry, EntryKind, LinkTarget, Mode};
pub use entry_path::{EntryPath, InvalidPath};
pub use error::Error;
pub use hash::{ContentHash, InvalidHash, ManifestHash};
pub use heaviest::Heavy;
pub use limits::{HumanSize, Limits};
pub use manifest::Manifest;
