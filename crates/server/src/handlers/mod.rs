//! Request handlers, one module per resource.

mod budgeted;
pub mod docs;
pub mod health;
mod json;
mod list;
pub mod logs;
pub mod nodes;
pub mod tasks;
pub mod volumes;
