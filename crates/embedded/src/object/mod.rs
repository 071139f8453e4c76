//! Objects as the API stores them, and the kinds of objects.

mod kind;
pub(crate) mod names;
mod object;

pub(crate) use kind::{Kind, ObjectType};
pub(crate) use object::{Object, ObjectKey, add_seconds, format_time, partial_metadata, resource_version};
