//! What the pods of a namespace with Pod Security Standards must say of themselves.

use crate::kubernetes::{Capabilities, PodSecurityContext, SeccompProfile, SecurityContext};
use crate::settings::PodSecurity;

/// The user and group of a task that may not be root. Images that name no user of their own would be, and not start at all.
const USER: i64 = 1000;

/// Of the whole pod. `fsGroup` lets the user write to volumes, which are root's when they are made.
pub(super) fn of_pod(level: PodSecurity) -> Option<PodSecurityContext> {
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

/// Of its container (<https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted>).
pub(super) fn of_container(level: PodSecurity) -> Option<SecurityContext> {
    (level == PodSecurity::Restricted).then(|| SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities {
            drop: Some(vec!["ALL".to_owned()]),
            add: None,
        }),
        ..SecurityContext::default()
    })
}
