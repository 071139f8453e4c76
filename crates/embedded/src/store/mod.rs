//! Where all objects are: `SQLite`, with one writer, many readers, and a window on the latest changes for watches.
//!
//! ```text
//! API, node ──► writer thread ──► one transaction for all that wait ──► commit ──► answers
//!                    │ each change is shown to the controllers, whose own changes are part of the same transaction
//!                    └────────────────────────────────────────────────► hub ──► watches
//! API ──► reader (its own connection) ──► answers
//! ```
//!
//! In memory there is neither thread nor reader: whoever asks does the work, and the rest is the same.

mod database;
mod entrance;
mod health;
mod hub;
mod inline;
mod reader;
mod room;
mod threads;
mod transaction;
mod writer;

pub use entrance::Store;
pub use hub::{Change, Hub, Position};
pub use reader::{Continue, Query, get, list};
pub use transaction::{Touched, Transaction};
pub use writer::Durability;
