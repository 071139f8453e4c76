//! Request handlers, one module per resource.

mod budgeted;
pub(crate) mod cancel;
pub(crate) mod docs;
pub(crate) mod events;
pub(crate) mod files;
pub(crate) mod groups;
pub(crate) mod health;
pub(crate) mod history;
mod json;
mod list;
pub(crate) mod logs;
pub(crate) mod nodes;
pub(crate) mod outputs;
pub(crate) mod task_files;
pub(crate) mod tasks;
pub(crate) mod volumes;
