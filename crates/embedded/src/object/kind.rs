//! The table of supported kinds.

/// The only version of every group.
const VERSION: &str = "v1";

/// A kind of object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
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

/// What the API says about a kind.
struct Definition {
    group: &'static str,
    name: &'static str,
    plural: &'static str,
    singular: &'static str,
    short_names: &'static [&'static str],
    is_namespaced: bool,
    has_status: bool,
    selectable_fields: &'static [&'static str],
}

impl Kind {
    /// All kinds. Their plurals are unique across groups, so that a plural alone identifies a kind.
    pub const ALL: [Self; 12] = [
        Self::Job,
        Self::Pod,
        Self::PersistentVolumeClaim,
        Self::ConfigMap,
        Self::Secret,
        Self::Service,
        Self::Event,
        Self::Node,
        Self::Namespace,
        Self::ResourceQuota,
        Self::ServiceAccount,
        Self::StorageClass,
    ];

    /// Looks up a kind by its plural.
    pub fn from_plural(plural: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.plural() == plural)
    }

    /// API group; empty for the core group.
    pub fn group(self) -> &'static str {
        self.definition().group
    }

    /// E.g., `Job`.
    pub fn name(self) -> &'static str {
        self.definition().name
    }

    /// The name in paths, e.g., `jobs`.
    pub fn plural(self) -> &'static str {
        self.definition().plural
    }

    /// E.g., `job`.
    pub fn singular(self) -> &'static str {
        self.definition().singular
    }

    /// Short names for `kubectl`, e.g., `po`.
    pub fn short_names(self) -> &'static [&'static str] {
        self.definition().short_names
    }

    pub fn is_namespaced(self) -> bool {
        self.definition().is_namespaced
    }

    /// Whether it has a `status` subresource.
    pub fn has_status(self) -> bool {
        self.definition().has_status
    }

    /// Fields that field selectors support beside name and namespace, e.g., `spec.nodeName`.
    pub fn selectable_fields(self) -> &'static [&'static str] {
        self.definition().selectable_fields
    }

    /// `v1`.
    pub fn version(self) -> &'static str {
        VERSION
    }

    /// `batch/v1`.
    pub fn api_version(self) -> String {
        match self.group() {
            "" => VERSION.to_owned(),
            group => format!("{group}/{VERSION}"),
        }
    }

    /// `jobs.batch`.
    pub fn resource(self) -> String {
        self.with_group(self.plural())
    }

    /// `Job.batch`.
    pub fn qualified(self) -> String {
        self.with_group(self.name())
    }

    fn with_group(self, name: &str) -> String {
        match self.group() {
            "" => name.to_owned(),
            group => format!("{name}.{group}"),
        }
    }

    const fn definition(self) -> &'static Definition {
        match self {
            Self::Job => &JOB,
            Self::Pod => &POD,
            Self::PersistentVolumeClaim => &PERSISTENT_VOLUME_CLAIM,
            Self::ConfigMap => &CONFIG_MAP,
            Self::Secret => &SECRET,
            Self::Service => &SERVICE,
            Self::Event => &EVENT,
            Self::Node => &NODE,
            Self::Namespace => &NAMESPACE,
            Self::ResourceQuota => &RESOURCE_QUOTA,
            Self::ServiceAccount => &SERVICE_ACCOUNT,
            Self::StorageClass => &STORAGE_CLASS,
        }
    }
}

/// A namespaced kind of the core group, without a status.
const fn core(name: &'static str, plural: &'static str, singular: &'static str) -> Definition {
    Definition {
        group: "",
        name,
        plural,
        singular,
        short_names: &[],
        is_namespaced: true,
        has_status: false,
        selectable_fields: &[],
    }
}

static JOB: Definition = Definition {
    group: "batch",
    has_status: true,
    selectable_fields: &["status.successful"],
    ..core("Job", "jobs", "job")
};

static POD: Definition = Definition {
    short_names: &["po"],
    has_status: true,
    selectable_fields: &[
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "status.phase",
        "status.podIP",
    ],
    ..core("Pod", "pods", "pod")
};

static PERSISTENT_VOLUME_CLAIM: Definition = Definition {
    short_names: &["pvc"],
    has_status: true,
    ..core(
        "PersistentVolumeClaim",
        "persistentvolumeclaims",
        "persistentvolumeclaim",
    )
};

static CONFIG_MAP: Definition = Definition {
    short_names: &["cm"],
    ..core("ConfigMap", "configmaps", "configmap")
};

static SECRET: Definition = Definition {
    selectable_fields: &["type"],
    ..core("Secret", "secrets", "secret")
};

static SERVICE: Definition = Definition {
    short_names: &["svc"],
    has_status: true,
    selectable_fields: &["spec.clusterIP", "spec.type"],
    ..core("Service", "services", "service")
};

static EVENT: Definition = Definition {
    short_names: &["ev"],
    selectable_fields: &[
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
    ..core("Event", "events", "event")
};

static NODE: Definition = Definition {
    short_names: &["no"],
    is_namespaced: false,
    has_status: true,
    selectable_fields: &["spec.unschedulable"],
    ..core("Node", "nodes", "node")
};

static NAMESPACE: Definition = Definition {
    short_names: &["ns"],
    is_namespaced: false,
    has_status: true,
    selectable_fields: &["status.phase"],
    ..core("Namespace", "namespaces", "namespace")
};

static RESOURCE_QUOTA: Definition = Definition {
    short_names: &["quota"],
    has_status: true,
    ..core("ResourceQuota", "resourcequotas", "resourcequota")
};

static SERVICE_ACCOUNT: Definition = Definition {
    short_names: &["sa"],
    ..core("ServiceAccount", "serviceaccounts", "serviceaccount")
};

static STORAGE_CLASS: Definition = Definition {
    group: "storage.k8s.io",
    short_names: &["sc"],
    is_namespaced: false,
    ..core("StorageClass", "storageclasses", "storageclass")
};
