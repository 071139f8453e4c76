//! The table of supported kinds.

use serde_json::Value;

use crate::refusal::{FieldErrors, Refusal};
use crate::resources::{self, Admit};

/// A kind of object, with the functions that differ by kind.
pub struct Kind {
    /// API group; empty for the core group.
    pub group: &'static str,
    pub version: &'static str,
    /// E.g., `Job`.
    pub kind: &'static str,
    /// The name in paths, e.g., `jobs`.
    pub plural: &'static str,
    /// E.g., `job`.
    pub singular: &'static str,
    /// Short names for `kubectl`, e.g., `po`.
    pub short: &'static [&'static str],
    pub namespaced: bool,
    /// Whether it has a `status` subresource.
    pub has_status: bool,
    /// Fields that field selectors support beside name and namespace, e.g., `spec.nodeName`.
    pub fields: &'static [&'static str],
    /// Decodes a new or changed object, sets its defaults, and validates it.
    pub admit: fn(Admit) -> Result<Value, Refusal>,
    /// Whether the controllers still have work to do on an object.
    pub is_active: fn(&Value) -> bool,
    /// Validates a name; the error is why it is invalid.
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
    pub fn api_version(&self) -> String {
        match self.group {
            "" => self.version.to_owned(),
            group => format!("{group}/{}", self.version),
        }
    }

    /// `jobs.batch`.
    pub fn resource(&self) -> String {
        match self.group {
            "" => self.plural.to_owned(),
            group => format!("{}.{group}", self.plural),
        }
    }

    /// `Job.batch`.
    pub fn qualified(&self) -> String {
        match self.group {
            "" => self.kind.to_owned(),
            group => format!("{}.{group}", self.kind),
        }
    }

    /// Validates the name of an object of this kind.
    pub fn check_name(&self, name: &str, errors: &mut FieldErrors) {
        if let Err(why) = (self.is_name)(name) {
            errors.invalid("metadata.name", name, why);
        }
    }
}

/// Looks up a kind by its plural.
pub fn named(plural: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.plural == plural)
}

/// Looks up a kind whose plural is known at compile time.
///
/// # Panics
/// The plural is not in [`KINDS`].
pub fn kind_of(plural: &'static str) -> &'static Kind {
    named(plural).expect("the plural should be in `KINDS`")
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

/// All kinds. Their plurals are unique across groups, so that a plural alone identifies a kind.
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
