//! Objects as the API stores them, and the kinds of objects.

mod kind;
pub mod names;
mod object;

pub use kind::{Kind, ObjectType};
pub use object::{Object, ObjectKey, add_seconds, format_time, partial_metadata, resource_version};
