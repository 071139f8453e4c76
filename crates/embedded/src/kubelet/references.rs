//! The objects that a pod refers to.

use std::collections::HashMap;

use crate::object::{Kind, Object};

/// A reference to an object in the pod's namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reference {
    pub kind: Kind,
    pub name: String,
    /// Whether the container waits until the object exists.
    pub is_required: bool,
}

/// The objects that exist, by kind and name.
pub(super) type ReferencedObjects = HashMap<(Kind, String), Object>;

impl Reference {
    pub(crate) fn new(kind: Kind, name: impl Into<String>, is_optional: Option<bool>) -> Self {
        Self {
            kind,
            name: name.into(),
            is_required: is_optional != Some(true),
        }
    }
}
