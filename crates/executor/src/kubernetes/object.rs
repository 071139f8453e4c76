//! What all objects of the namespace have in common.

use std::fmt::Debug;

use kube::core::NamespaceResourceScope;
use serde::de::DeserializeOwned;

use super::{OwnerReference, Resource};

/// A namespaced kind that can be read.
pub(crate) trait NamespacedObject:
    Resource<Scope = NamespaceResourceScope, DynamicType: Default> + Clone + DeserializeOwned + Debug
{
}

impl<K> NamespacedObject for K where
    K: Resource<Scope = NamespaceResourceScope, DynamicType: Default> + Clone + DeserializeOwned + Debug
{
}

/// One object: its name, and its uid, because another object may get the name later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectRef {
    /// Its name in the namespace.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

impl ObjectRef {
    /// A reference to the object with this name and uid.
    pub fn new(name: &str, uid: &str) -> Self {
        Self {
            name: name.to_owned(),
            uid: uid.to_owned(),
        }
    }

    /// The reference to a ConfigMap in the objects that it owns.
    pub(crate) fn as_owner(&self) -> OwnerReference {
        OwnerReference {
            api_version: "v1".to_owned(),
            kind: "ConfigMap".to_owned(),
            name: self.name.clone(),
            uid: self.uid.clone(),
            ..OwnerReference::default()
        }
    }

    /// The object in any version.
    pub fn any_version(&self) -> Target<'_> {
        self.version(None)
    }

    /// The object in this version only, if one is given.
    pub fn version<'a>(&'a self, version: Option<&'a str>) -> Target<'a> {
        let (name, uid) = (&self.name, &self.uid);
        Target { name, uid, version }
    }
}

/// An object to change: its name, its uid, and optionally the only version that may be changed.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    pub name: &'a str,
    pub uid: &'a str,
    pub version: Option<&'a str>,
}
