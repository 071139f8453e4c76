//! Deletes objects: immediately, after a grace period, or when the last finalizer is removed.

use k8s_openapi::api::core::v1::{NamespaceSpec, NamespaceStatus, PodSpec};

use crate::object::{Kind, Object};
use crate::resources::{is_bound, is_terminal};
use crate::status_error::StatusError;
use crate::store::Transaction;

/// Finalizer that keeps an owner until its dependents are gone.
pub(crate) const FOREGROUND_FINALIZER: &str = "foregroundDeletion";
/// Finalizer that keeps an owner until its dependents no longer refer to it.
pub(crate) const ORPHAN_FINALIZER: &str = "orphan";

/// What happens to an object's dependents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum PropagationPolicy {
    /// They are deleted after the object.
    #[default]
    Background,
    /// They are deleted before the object.
    Foreground,
    /// They stay.
    Orphan,
}

/// Deletion options.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct DeleteOptions {
    /// Grace period of a pod in seconds; that of its spec if `None`.
    pub grace: Option<u32>,
    pub propagation: PropagationPolicy,
}

/// Deletes an object, or begins its deletion; returns its last state.
pub(crate) fn delete_object(
    transaction: &mut Transaction<'_>,
    mut object: Object,
    options: DeleteOptions,
) -> Result<Object, StatusError> {
    let grace = grace_period(&object, options.grace)?;
    if object.is_deleting() {
        // As in Kubernetes, a repeated deletion can only shorten the grace period.
        if options.grace.is_none() || i64::from(grace) >= object.deletion_grace_period() {
            return Ok(object);
        }
    }
    match options.propagation {
        PropagationPolicy::Background => {}
        PropagationPolicy::Foreground => object.add_finalizer(FOREGROUND_FINALIZER),
        PropagationPolicy::Orphan => object.add_finalizer(ORPHAN_FINALIZER),
    }
    let is_namespace = object.kind == Kind::Namespace;
    if grace == 0 && object.finalizers().is_empty() && !is_namespace {
        transaction.remove(object.clone())?;
        return Ok(object);
    }
    object.begin_deletion(grace, transaction.now);
    if is_namespace {
        object.update_status(|status: &mut NamespaceStatus| status.phase = Some("Terminating".to_owned()))?;
    }
    let object = transaction.update(object)?;
    remove_if_finalized(transaction, object)
}

/// Removes an object that is being deleted, unless a finalizer or its grace period still keeps it.
pub(crate) fn remove_if_finalized(transaction: &mut Transaction<'_>, object: Object) -> Result<Object, StatusError> {
    let is_kept = !object.is_deleting()
        || !object.finalizers().is_empty()
        || object.deletion_grace_period() > 0
        || (object.kind == Kind::Namespace
            && object
                .spec::<NamespaceSpec>()?
                .finalizers
                .is_some_and(|list| !list.is_empty()));
    if !is_kept {
        transaction.remove(object.clone())?;
    }
    Ok(object)
}

/// Only pods that may be running get a grace period.
fn grace_period(object: &Object, requested: Option<u32>) -> Result<u32, StatusError> {
    let may_run = object.kind == Kind::Pod && is_bound(object) && !is_terminal(object);
    if !may_run {
        return Ok(0);
    }
    if let Some(requested) = requested {
        return Ok(requested);
    }
    let own = object
        .spec_without::<PodSpec>("containers")?
        .termination_grace_period_seconds;
    Ok(own.and_then(|own| u32::try_from(own).ok()).unwrap_or(30))
}
