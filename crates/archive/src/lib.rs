//! What outlives Kubernetes' objects: the records and logs of tasks, in an object store.
//!
//! ```text
//! records/DAY/TASK.json              one immutable object for each task that has ended
//! logs/DAY/TASK/RANK/POD/00000000    the log of a pod, in frames that are written once
//! logs/DAY/TASK/RANK/POD/end         written after the last frame
//! files/USER/...                     the files of users, by their hash
//! ```
//!
//! The object store is the truth. A put that only succeeds if the object is absent decides between several servers. The
//! index in SQLite makes records searchable, and is rebuilt from the store whenever it is missing.

mod archive;
mod error;
mod file_store;
mod frame;
mod index;
mod key;
mod leftovers;
mod location;
mod log_reader;
mod log_writer;
mod position;
mod retention;
mod space;
mod store;

pub use archive::Archive;
pub use error::Error;
pub use file_store::{FileStore, FilesInUse};
pub use frame::{Frame, FrameHeader};
pub use index::{HistoryCursor, HistoryFilter, UsageFilter, matches_glob};
pub use key::{LogKey, RecordKey};
pub use location::{InvalidLocation, Location};
pub use log_reader::ReadFrom;
pub use log_writer::{LogState, Put};
pub use position::Position;
pub use retention::InUse;
pub use space::{Limits, disk_size};
