//! The table of supported kinds. What Kubernetes calls them comes from their types in k8s-openapi.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{
    ConfigMap, Event, Namespace, Node, PersistentVolumeClaim, Pod, ResourceQuota, Secret, Service, ServiceAccount,
};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::{ClusterResourceScope, NamespaceResourceScope, Resource};

/// A kind of object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    Job,
    Pod,
    PersistentVolumeClaim,
    ConfigMap,
    Secret,
    Service,
    Event,
    Node,
    Namespace,
    ResourceQuota,
    ServiceAccount,
    StorageClass,
}

/// The type of a kind's objects.
pub(crate) trait ObjectType: Resource<Scope: ObjectScope> {
    const OBJECT_KIND: Kind;
}

/// Where the objects of a kind live.
pub(crate) trait ObjectScope {
    const IS_NAMESPACED: bool;
}

impl ObjectScope for NamespaceResourceScope {
    const IS_NAMESPACED: bool = true;
}

impl ObjectScope for ClusterResourceScope {
    const IS_NAMESPACED: bool = false;
}

macro_rules! kinds {
    ($($name:ident)*) => {
        impl Kind {
            /// All kinds. Their plurals are unique across groups, so that a plural alone identifies a kind.
            pub(crate) const ALL: [Self; [$(Self::$name),*].len()] = [$(Self::$name),*];

            const fn definition(self) -> &'static Definition {
                match self {
                    $(Self::$name => const { &Definition::of::<$name>() },)*
                }
            }
        }

        $(impl ObjectType for $name {
            const OBJECT_KIND: Kind = Kind::$name;
        })*
    };
}

kinds! {
    Job Pod PersistentVolumeClaim ConfigMap Secret Service Event Node Namespace ResourceQuota ServiceAccount StorageClass
}

/// What Kubernetes calls a kind.
struct Definition {
    group: &'static str,
    version: &'static str,
    api_version: &'static str,
    name: &'static str,
    plural: &'static str,
    is_namespaced: bool,
}

impl Definition {
    const fn of<T: ObjectType>() -> Self {
        Self {
            group: T::GROUP,
            version: T::VERSION,
            api_version: T::API_VERSION,
            name: T::KIND,
            plural: T::URL_PATH_SEGMENT,
            is_namespaced: T::Scope::IS_NAMESPACED,
        }
    }
}

impl Kind {
    /// Looks up a kind by its plural.
    pub(crate) fn from_plural(plural: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.plural() == plural)
    }

    /// API group; empty for the core group.
    pub(crate) const fn group(self) -> &'static str {
        self.definition().group
    }

    /// `v1`.
    pub(crate) const fn version(self) -> &'static str {
        self.definition().version
    }

    /// E.g., `batch/v1`.
    pub(crate) const fn api_version(self) -> &'static str {
        self.definition().api_version
    }

    /// E.g., `Job`.
    pub(crate) const fn name(self) -> &'static str {
        self.definition().name
    }

    /// The name in paths, e.g., `jobs`.
    pub(crate) const fn plural(self) -> &'static str {
        self.definition().plural
    }

    /// E.g., `job`.
    pub(crate) fn singular(self) -> String {
        self.name().to_ascii_lowercase()
    }

    pub(crate) const fn is_namespaced(self) -> bool {
        self.definition().is_namespaced
    }

    /// Whether it has a `status` subresource.
    pub(crate) const fn has_status(self) -> bool {
        match self {
            Self::Job
            | Self::Pod
            | Self::PersistentVolumeClaim
            | Self::Service
            | Self::Node
            | Self::Namespace
            | Self::ResourceQuota => true,
            Self::ConfigMap | Self::Secret | Self::Event | Self::ServiceAccount | Self::StorageClass => false,
        }
    }

    /// Fields that field selectors support beside name and namespace, e.g., `spec.nodeName`.
    pub(crate) const fn selectable_fields(self) -> &'static [&'static str] {
        match self {
            Self::Job => &["status.successful"],
            Self::Pod => &[
                "spec.nodeName",
                "spec.restartPolicy",
                "spec.schedulerName",
                "spec.serviceAccountName",
                "status.phase",
                "status.podIP",
            ],
            Self::Secret => &["type"],
            Self::Service => &["spec.clusterIP", "spec.type"],
            Self::Event => &[
                "involvedObject.kind",
                "involvedObject.namespace",
                "involvedObject.name",
                "involvedObject.uid",
                "involvedObject.apiVersion",
                "involvedObject.resourceVersion",
                "involvedObject.fieldPath",
                "reason",
                "reportingComponent",
                "source",
                "type",
            ],
            Self::Node => &["spec.unschedulable"],
            Self::Namespace => &["status.phase"],
            Self::PersistentVolumeClaim
            | Self::ConfigMap
            | Self::ResourceQuota
            | Self::ServiceAccount
            | Self::StorageClass => &[],
        }
    }

    /// `jobs.batch`.
    pub(crate) fn resource(self) -> String {
        self.with_group(self.plural())
    }

    /// `Job.batch`.
    pub(crate) fn qualified(self) -> String {
        self.with_group(self.name())
    }

    fn with_group(self, name: &str) -> String {
        match self.group() {
            "" => name.to_owned(),
            group => format!("{name}.{group}"),
        }
    }
}
