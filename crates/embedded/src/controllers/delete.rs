//! Deletes objects: immediately, after a grace period, or when the last finalizer is removed.

use crate::object::Object;
use crate::refusal::Refusal;
use crate::store::Transaction;

/// Finalizer that keeps an owner until its dependents are gone.
pub const FOREGROUND: &str = "foregroundDeletion";
/// Finalizer that keeps an owner until its dependents no longer refer to it.
pub const ORPHAN: &str = "orphan";

/// What happens to an object's dependents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Propagation {
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
pub struct Options {
    /// Grace period of a pod in seconds; that of its spec if `None`.
    pub grace: Option<u32>,
    pub propagation: Propagation,
}

/// Deletes an object, or begins its deletion; returns its last state.
pub fn delete(transaction: &mut Transaction<'_>, mut object: Object, options: Options) -> Result<Object, Refusal> {
    let grace = grace_of(&object, options.grace);
    if object.is_deleting() {
        let left = object.value["metadata"]["deletionGracePeriodSeconds"]
            .as_u64()
            .unwrap_or(0);
        // As in Kubernetes, a repeated deletion can only shorten the grace period.
        if options.grace.is_none() || u64::from(grace) >= left {
            return Ok(object);
        }
    }
    match options.propagation {
        Propagation::Background => {}
        Propagation::Foreground => object.add_finalizer(FOREGROUND),
        Propagation::Orphan => object.add_finalizer(ORPHAN),
    }
    let is_namespace = object.kind.plural == "namespaces";
    if grace == 0 && object.finalizers().is_empty() && !is_namespace {
        transaction.remove(object.clone())?;
        return Ok(object);
    }
    object.begin_deletion(grace, transaction.now);
    if is_namespace {
        object.value["status"]["phase"] = "Terminating".into();
    }
    let object = transaction.update(object)?;
    settle(transaction, object)
}

/// Removes an object that is being deleted, unless a finalizer or its grace period still keeps it.
pub fn settle(transaction: &mut Transaction<'_>, object: Object) -> Result<Object, Refusal> {
    let grace = object.value["metadata"]["deletionGracePeriodSeconds"]
        .as_u64()
        .unwrap_or(0);
    let kept = !object.is_deleting()
        || !object.finalizers().is_empty()
        || grace > 0
        || (object.kind.plural == "namespaces"
            && object.value["spec"]["finalizers"]
                .as_array()
                .is_some_and(|list| !list.is_empty()));
    if !kept {
        transaction.remove(object.clone())?;
    }
    Ok(object)
}

/// Only pods that may be running get a grace period.
fn grace_of(object: &Object, asked: Option<u32>) -> u32 {
    if object.kind.plural != "pods" {
        return 0;
    }
    let runs = object.value["spec"]["nodeName"].is_string() && (object.kind.is_active)(&object.value);
    if !runs {
        return 0;
    }
    let own = object.value["spec"]["terminationGracePeriodSeconds"].as_u64();
    asked.unwrap_or_else(|| own.and_then(|own| u32::try_from(own).ok()).unwrap_or(30))
}
