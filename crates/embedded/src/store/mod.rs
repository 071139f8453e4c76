//! Stores all objects in `SQLite`, with one writer, many readers, and a window of recent changes for watches.
//!
//! ```text
//! API, node ──► writer thread ──► one transaction per batch ──► commit ──► responses
//!                    │ the controllers react to each change in the same transaction
//!                    └────────────────────────────────────────────────► hub ──► watches
//! API ──► reader (its own connection) ──► responses
//! ```
//!
//! In memory, there are neither threads nor readers: the caller's thread does the work. The rest is the same.

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
