//! Which fields of a pod a task may set.

use std::fmt;
use std::str::FromStr;

/// The fields that any task may set: they neither grant access to other users' data and to the cluster nodes, nor
/// change what this server relies on. Paths have no indices; what is below a path is allowed with it.
const ALWAYS: &[&str] = &[
    "metadata.annotations",
    "metadata.labels",
    "spec.affinity.nodeAffinity",
    "spec.affinity.podAffinity",
    // A required one would keep the pods of everyone else away, too.
    "spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution",
    "spec.containers.env.name",
    "spec.containers.env.value",
    "spec.containers.env.valueFrom.fieldRef",
    "spec.containers.env.valueFrom.resourceFieldRef",
    "spec.containers.imagePullPolicy",
    "spec.containers.name",
    "spec.containers.ports.containerPort",
    "spec.containers.ports.name",
    "spec.containers.ports.protocol",
    "spec.containers.resources",
    "spec.containers.securityContext.capabilities.drop",
    "spec.containers.securityContext.readOnlyRootFilesystem",
    "spec.containers.securityContext.runAsGroup",
    "spec.containers.securityContext.runAsNonRoot",
    "spec.containers.securityContext.runAsUser",
    "spec.containers.volumeMounts.mountPath",
    "spec.containers.volumeMounts.name",
    "spec.containers.volumeMounts.readOnly",
    "spec.containers.volumeMounts.subPath",
    "spec.dnsConfig",
    "spec.dnsPolicy",
    "spec.hostAliases",
    "spec.nodeSelector",
    "spec.securityContext.fsGroup",
    "spec.securityContext.fsGroupChangePolicy",
    "spec.securityContext.runAsGroup",
    "spec.securityContext.runAsNonRoot",
    "spec.securityContext.runAsUser",
    "spec.securityContext.supplementalGroups",
    "spec.terminationGracePeriodSeconds",
    "spec.tolerations",
    "spec.topologySpreadConstraints",
    "spec.volumes.emptyDir",
    "spec.volumes.name",
];

/// The fields that no operator can allow, because the server sets them, and why or what to use instead.
const NEVER: &[(&str, &str)] = &[
    ("spec.activeDeadlineSeconds", "use `max_duration`"),
    ("spec.containers.args", "use `run`"),
    ("spec.containers.command", "use `run`"),
    ("spec.containers.image", "use `resources.image_id`"),
    ("spec.containers.readinessProbe", "the server sets it"),
    ("spec.hostname", "the server sets it"),
    ("spec.nodeName", "use `spec.nodeSelector`"),
    ("spec.restartPolicy", "use `resources.job_recovery`"),
    ("spec.serviceAccount", "use `spec.serviceAccountName`"),
    ("spec.subdomain", "the server sets it"),
];

/// The path of the field with the service account. Which ones tasks may choose is a list of its own, because each has
/// other rights in the cluster.
const SERVICE_ACCOUNT: &str = "spec.serviceAccountName";

/// The path of the field that `resources.priority_class` sets.
pub(crate) const PRIORITY_CLASS: &str = "spec.priorityClassName";

/// The fields and the service accounts that an operator allows in addition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowList {
    fields: Vec<FieldPath>,
    service_accounts: Vec<String>,
}

/// The path of a field of a pod, e.g., `spec.hostNetwork`, or `*` for all fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldPath(String);

/// What a task may do with a field.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Permission {
    /// Set it and everything below.
    Allowed,
    /// Only some of the fields below.
    Partial,
    /// Nothing, for this reason.
    Denied(String),
}

impl FromIterator<FieldPath> for AllowList {
    fn from_iter<I: IntoIterator<Item = FieldPath>>(paths: I) -> Self {
        Self {
            fields: paths.into_iter().collect(),
            service_accounts: Vec::new(),
        }
    }
}

impl FromStr for FieldPath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_part = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let is_path = text.starts_with("spec.") && text.split('.').all(is_part);
        let denied = NEVER.iter().find(|(path, _)| is_at_or_below(text, path));
        match denied {
            Some((path, _)) => Err(format!("tasks can never set `{path}`")),
            None if text == SERVICE_ACCOUNT => {
                Err("use `--allow-service-account NAME` for each service account that tasks may choose".to_owned())
            }
            None if text == "*" || is_path => Ok(Self(text.to_owned())),
            None => Err(format!(
                "invalid field `{text}`; expected, e.g., `spec.hostNetwork`, or `*`"
            )),
        }
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl AllowList {
    /// The same list with the service accounts that tasks may choose.
    #[must_use]
    pub fn with_service_accounts(self, service_accounts: Vec<String>) -> Self {
        Self {
            service_accounts,
            ..self
        }
    }

    /// Why a task may not choose a service account, if it may not.
    pub(crate) fn reject_service_account(&self, name: &str) -> Option<String> {
        let is_allowed = self.service_accounts.iter().any(|allowed| allowed == name);
        if is_allowed || self.allows_all_of(SERVICE_ACCOUNT) {
            return None;
        }
        Some(format!(
            "the server does not let tasks use the service account `{name}`; its operator can allow it with \
             `--allow-service-account {name}`"
        ))
    }

    /// Whether a task may set a field, and everything below.
    pub(crate) fn allows(&self, path: &str) -> bool {
        self.permission(path) == Permission::Allowed
    }

    /// Whether the operator allows a field beyond what every task may set.
    pub(super) fn allows_all_of(&self, path: &str) -> bool {
        self.fields
            .iter()
            .any(|allowed| allowed.0 == "*" || is_at_or_below(path, &allowed.0))
    }

    /// What a task may do with the field at a path without indices.
    pub(super) fn permission(&self, path: &str) -> Permission {
        if let Some((path, remedy)) = NEVER.iter().find(|(never, _)| is_at_or_below(path, never)) {
            return Permission::Denied(format!("tasks cannot set `{path}`; {remedy}"));
        }
        let has_never_below = NEVER.iter().any(|(never, _)| is_at_or_below(never, path));
        // Its value is checked.
        if path == SERVICE_ACCOUNT {
            return Permission::Allowed;
        }
        let added = self.fields.iter().map(|path| path.0.as_str());
        let all = || ALWAYS.iter().copied().chain(added.clone());
        if all().any(|allowed| allowed == "*" || is_at_or_below(path, allowed)) {
            return if has_never_below {
                Permission::Partial
            } else {
                Permission::Allowed
            };
        }
        if all().any(|allowed| is_at_or_below(allowed, path)) {
            return Permission::Partial;
        }
        if path.starts_with("spec.") {
            return Permission::Denied(format!(
                "the server does not let tasks set `{path}`; its operator can allow it with `--allow-pod-config {path}`"
            ));
        }
        Permission::Denied(format!("tasks cannot set `{path}`"))
    }
}

fn is_at_or_below(path: &str, parent: &str) -> bool {
    path.strip_prefix(parent)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::{AllowList, Permission};

    fn list(paths: &[&str]) -> AllowList {
        paths.iter().map(|path| path.parse().unwrap()).collect()
    }

    #[test]
    fn what_opens_the_cluster_node_or_the_namespace_is_not_allowed_by_default() {
        for path in [
            "spec.hostNetwork",
            "spec.hostPID",
            "spec.volumes.hostPath",
            "spec.volumes.secret.secretName",
            "spec.volumes.persistentVolumeClaim",
            "spec.containers.env.valueFrom.secretKeyRef",
            "spec.containers.envFrom",
            "spec.containers.securityContext.privileged",
            "spec.containers.securityContext.capabilities.add",
            "spec.containers.ports.hostPort",
            "spec.imagePullSecrets",
            "spec.priorityClassName",
            "spec.initContainers",
            "spec.runtimeClassName",
            "spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution",
            "spec.containersX",
            "status",
        ] {
            assert!(matches!(list(&[]).permission(path), Permission::Denied(_)), "{path}");
            assert!(list(&["*"]).allows(path), "{path}");
        }
        assert!(list(&["spec.hostNetwork"]).allows("spec.hostNetwork"));
        assert!(!list(&["spec.hostNetwork"]).allows("spec.hostPID"));
        assert!(list(&["spec.volumes.hostPath"]).allows("spec.volumes.hostPath.path"));
    }

    #[test]
    fn a_task_may_choose_a_service_account_that_is_listed() {
        let accounts = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let one = list(&[]).with_service_accounts(accounts(&["reader"]));
        assert_eq!(one.reject_service_account("reader"), None);
        assert_eq!(list(&["*"]).reject_service_account("admin"), None);
        for allowed in [one, list(&[]), list(&["spec.hostNetwork"])] {
            let reason = allowed.reject_service_account("admin").unwrap();
            assert!(reason.contains("`--allow-service-account admin`"), "{reason}");
        }
    }

    #[test]
    fn what_the_server_relies_on_is_never_allowed() {
        for path in [
            "spec.restartPolicy",
            "spec.containers.command",
            "spec.containers.args.x",
        ] {
            assert!(matches!(list(&["*"]).permission(path), Permission::Denied(_)), "{path}");
        }
        assert_eq!(list(&["*"]).permission("spec.containers"), Permission::Partial);
        assert_eq!(list(&["*"]).permission("spec"), Permission::Partial);
        for wrong in [
            "hostNetwork",
            "spec",
            "spec.",
            "spec..a",
            "spec.restartPolicy",
            "spec.serviceAccountName",
            "spec.containers.command",
            "",
        ] {
            assert!(wrong.parse::<super::FieldPath>().is_err(), "{wrong}");
        }
    }
}
