//! `config.kubernetes.pod_config`: fields of the pod that a task sets itself, as far as the operator allows it.

mod allow_list;
mod check;
mod merge;

pub(crate) use allow_list::PRIORITY_CLASS;
pub use allow_list::{AllowList, FieldPath};
pub(crate) use check::{MAX_GRACE_SECONDS, check};
pub(crate) use merge::apply;
