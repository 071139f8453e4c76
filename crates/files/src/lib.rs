//! A folder as a manifest and contents: what is in it, and the bytes of its files, each named by its hash.
//!
//! ```text
//! folder -- walk --> Selection -- manifest --> Manifest  (what is where, and the hashes of contents)
//!                        '------- sources --> contents -- pack --> upload
//!
//! Manifest + contents -- unpack --> folder
//!                     '-- tar ----> archive, for the `tar` of an image
//! ```
//!
//! The same folder gives the same bytes on every machine, and what was sent once is not sent again. Manifests, packs,
//! and contents are checked by their readers: they may come from anybody. Nothing is written outside of the folder
//! that they are unpacked to.

mod content;
mod contents;
mod defaults;
mod entry;
mod entry_path;
mod error;
mod hash;
mod hash_cache;
mod hashing;
mod heaviest;
mod ignore_files;
mod ignore_rules;
mod joined;
mod left_out;
mod limits;
mod manifest;
mod missing;
mod mtime;
mod pack;
mod packs;
mod partial;
mod selection;
mod tar;
mod text;
mod tree;
mod tree_hash;
mod unpack;
mod walk;

pub use content::{Content, MAX_CONTENT, MIN_CONTENT, split};
pub use contents::{Contents, Sources};
pub use entry::{Entry, EntryKind, LinkTarget, Mode};
pub use entry_path::{EntryPath, InvalidPath};
pub use error::Error;
pub use hash::{ContentHash, InvalidHash, ManifestHash};
pub use hash_cache::HashCache;
pub use hashing::Progress;
pub use heaviest::Heavy;
pub use joined::Part;
pub use left_out::{IgnoreFile, LeftOut, Paths};
pub use limits::{HumanSize, Limits};
pub use manifest::Manifest;
pub use mtime::Mtime;
pub use pack::{MAX_PACK, Pack, PackBuilder, PackReader, pack_head};
pub use packs::send_packs;
pub use selection::{Found, FoundKind, Selection, Stamp};
pub use tar::Tar;
#[doc(hidden)]
pub use tree_hash::tree_hash;
pub use unpack::Unpack;
pub use walk::Walk;
