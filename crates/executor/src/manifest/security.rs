//! The security contexts that Pod Security Standards require.

use crate::kubernetes::{Capabilities, PodSecurityContext, SeccompProfile, SecurityContext};
use crate::settings::PodSecurity;

/// The user and group of a task that must not run as root. An image without a `USER` would run as root and fail to
/// start.
const USER: i64 = 1000;

/// The security context of the pod. With `fsGroup` the user can write to new volumes, which belong to root.
pub(super) fn pod_security_context(level: PodSecurity) -> Option<PodSecurityContext> {
    (level == PodSecurity::Restricted).then(|| PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(USER),
        run_as_group: Some(USER),
        fs_group: Some(USER),
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".to_owned(),
            localhost_profile: None,
        }),
        ..PodSecurityContext::default()
    })
}

/// The security context of its container
/// (<https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted>).
pub(super) fn container_security_context(level: PodSecurity) -> Option<SecurityContext> {
    (level == PodSecurity::Restricted).then(|| SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities {
            drop: Some(vec!["ALL".to_owned()]),
            add: None,
        }),
        ..SecurityContext::default()
    })
}
