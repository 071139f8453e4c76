//! The kinds there are.

use serde_json::Value;

use crate::refusal::{FieldErrors, Refusal};
use crate::resources::{self, Admit};

/// A kind of object.
pub struct Kind {
    /// Its API group; empty for the core.
    pub group: &'static str,
    /// Its version.
    pub version: &'static str,
    /// Its name: `Job`.
    pub kind: &'static str,
    /// The name in paths: `jobs`.
    pub plural: &'static str,
    /// The name of one: `job`.
    pub singular: &'static str,
    /// What `kubectl` takes for it as well.
    pub short: &'static [&'static str],
    /// Whether its objects are in namespaces.
    pub namespaced: bool,
    /// Whether it has a `status` of its own path.
    pub has_status: bool,
    /// What a field selector may name, beside name and namespace: `spec.nodeName` and its like.
    pub fields: &'static [&'static str],
    /// Reads, completes and checks a new object or a changed one.
    pub admit: fn(Admit) -> Result<Value, Refusal>,
    /// Whether the controllers have something to do with an object.
    pub is_active: fn(&Value) -> bool,
    /// Checks a name; the error says why it is none.
    pub is_name: fn(&str) -> Result<(), &'static str>,
}

impl std::fmt::Debug for Kind {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.plural)
    }
}

impl PartialEq for Kind {
    fn eq(&self, other: &Self) -> bool {
        (self.group, self.plural) == (other.group, other.plural)
    }
}

impl Kind {
    /// `batch/v1`.
    #[must_use]
    pub fn api_version(&self) -> String {
        match self.group {
            "" => self.version.to_owned(),
            group => format!("{group}/{}", self.version),
        }
    }

    /// `jobs.batch`.
    #[must_use]
    pub fn resource(&self) -> String {
        match self.group {
            "" => self.plural.to_owned(),
            group => format!("{}.{group}", self.plural),
        }
    }

    /// `Job.batch`.
    #[must_use]
    pub fn qualified(&self) -> String {
        match self.group {
            "" => self.kind.to_owned(),
            group => format!("{}.{group}", self.kind),
        }
    }

    /// Checks a name for an object of this kind.
    pub fn check_name(&self, name: &str, errors: &mut FieldErrors) {
        if let Err(why) = (self.is_name)(name) {
            errors.invalid("metadata.name", name, why);
        }
    }
}

/// The kind with this plural.
#[must_use]
pub fn named(plural: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.plural == plural)
}

/// The kind of a type.
///
/// # Panics
/// There is none: each type in [`resources`] has one.
#[must_use]
pub fn kind_of(plural: &'static str) -> &'static Kind {
    named(plural).expect("each kind that the controllers use is in the table")
}

const fn core(
    kind: &'static str,
    plural: &'static str,
    singular: &'static str,
    admit: fn(Admit) -> Result<Value, Refusal>,
) -> Kind {
    Kind {
        group: "",
        version: "v1",
        kind,
        plural,
        singular,
        short: &[],
        namespaced: true,
        has_status: false,
        fields: &[],
        admit,
        is_active: |_| false,
        is_name: super::name::subdomain,
    }
}

/// All kinds. Their plurals are different, so that a plural alone names one.
pub static KINDS: [Kind; 12] = [
    Kind {
        group: "batch",
        short: &[],
        has_status: true,
        fields: &["status.successful"],
        is_active: resources::job::is_active,
        ..core("Job", "jobs", "job", resources::job::admit)
    },
    Kind {
        short: &["po"],
        has_status: true,
        fields: &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "status.phase",
            "status.podIP",
        ],
        is_active: resources::pod::is_active,
        ..core("Pod", "pods", "pod", resources::pod::admit)
    },
    Kind {
        short: &["pvc"],
        has_status: true,
        is_active: |claim| claim["status"]["phase"] != "Bound",
        ..core(
            "PersistentVolumeClaim",
            "persistentvolumeclaims",
            "persistentvolumeclaim",
            resources::claim::admit,
        )
    },
    Kind {
        short: &["cm"],
        ..core(
            "ConfigMap",
            "configmaps",
            "configmap",
            resources::config::admit_config_map,
        )
    },
    Kind {
        fields: &["type"],
        ..core("Secret", "secrets", "secret", resources::config::admit_secret)
    },
    Kind {
        short: &["svc"],
        has_status: true,
        fields: &["spec.clusterIP", "spec.type"],
        is_name: super::name::label,
        ..core("Service", "services", "service", resources::service::admit)
    },
    Kind {
        short: &["ev"],
        fields: &[
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
        ..core("Event", "events", "event", resources::plain::admit_event)
    },
    Kind {
        short: &["no"],
        namespaced: false,
        has_status: true,
        fields: &["spec.unschedulable"],
        ..core("Node", "nodes", "node", resources::plain::admit_node)
    },
    Kind {
        short: &["ns"],
        namespaced: false,
        has_status: true,
        fields: &["status.phase"],
        is_name: super::name::label,
        ..core(
            "Namespace",
            "namespaces",
            "namespace",
            resources::plain::admit_namespace,
        )
    },
    Kind {
        short: &["quota"],
        has_status: true,
        is_active: |_| true,
        ..core(
            "ResourceQuota",
            "resourcequotas",
            "resourcequota",
            resources::plain::admit_quota,
        )
    },
    Kind {
        short: &["sa"],
        ..core(
            "ServiceAccount",
            "serviceaccounts",
            "serviceaccount",
            resources::plain::admit_service_account,
        )
    },
    Kind {
        group: "storage.k8s.io",
        short: &["sc"],
        namespaced: false,
        ..core(
            "StorageClass",
            "storageclasses",
            "storageclass",
            resources::plain::admit_storage_class,
        )
    },
];
