//! Stores all objects in `SQLite`, with one writer, many readers, and a window of recent changes for watches.
//!
//! ```text
//! API, kubelet ──► writer thread ──► one transaction per batch ──► commit ──► responses
//!                       │ the hooks (the controllers) react to each change in the same transaction
//!                       └────────────────────────────────────────────────► watch cache ──► watches
//! API ──► reader (its own connection) ──► responses
//! ```
//!
//! In memory, there are neither threads nor readers: the caller's thread does the work. The rest is the same.

mod database;
mod decoded_objects;
mod file_store;
mod health;
mod hooks;
mod memory_store;
mod page_reserve;
mod reader;
mod store;
mod transaction;
mod watch_cache;
mod writer;

pub(crate) use hooks::TransactionHooks;
pub(crate) use reader::{ContinueToken, ListQuery, get_object, list_objects};
pub(crate) use store::Store;
pub(crate) use transaction::{ObjectChange, Transaction, WriteMode};
pub(crate) use watch_cache::{ResourceVersion, WatchCache, WatchCacheEvent};
pub(crate) use writer::Durability;
