//! Where all objects are: `SQLite`, with one writer, many readers, and a window on the latest changes for watches.
//!
//! ```text
//! API, node ──► writer thread ──► one transaction for all that wait ──► commit ──► answers
//!                    │ each change is shown to the controllers, whose own changes are part of the same transaction
//!                    └────────────────────────────────────────────────► hub ──► watches
//! API ──► reader (its own connection) ──► answers
//! ```

mod database;
mod hub;
mod reader;
mod transaction;
mod writer;

pub use hub::{Change, Hub, Position};
pub use reader::{Continue, Query, get, list};
pub use transaction::{Touched, Transaction};
pub use writer::{Durability, Store};
