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
    ("spec.subdomain", "the server sets it"),
];

/// The path of the field that `resources.priority_class` sets.
pub(crate) const PRIORITY_CLASS: &str = "spec.priorityClassName";

/// The fields that an operator allows in addition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowList(Vec<FieldPath>);

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
        Self(paths.into_iter().collect())
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
    /// Whether a task may set a field, and everything below.
    pub(crate) fn allows(&self, path: &str) -> bool {
        self.permission(path) == Permission::Allowed
    }

    /// Whether the operator allows a field beyond what every task may set.
    pub(super) fn allows_all_of(&self, path: &str) -> bool {
        self.0
            .iter()
            .any(|allowed| allowed.0 == "*" || is_at_or_below(path, &allowed.0))
    }

    /// What a task may do with the field at a path without indices.
    pub(super) fn permission(&self, path: &str) -> Permission {
        if let Some((path, remedy)) = NEVER.iter().find(|(never, _)| is_at_or_below(path, never)) {
            return Permission::Denied(format!("tasks cannot set `{path}`; {remedy}"));
        }
        let has_never_below = NEVER.iter().any(|(never, _)| is_at_or_below(never, path));
        let all = || ALWAYS.iter().copied().chain(self.0.iter().map(|path| path.0.as_str()));
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
            "spec.serviceAccountName",
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
            "spec.containers.command",
            "",
        ] {
            assert!(wrong.parse::<super::FieldPath>().is_err(), "{wrong}");
        }
    }
}
