//! The garbage collector: deletes dependents with their owners.

use super::deletion::{
    DeleteOptions, FOREGROUND_FINALIZER, ORPHAN_FINALIZER, PropagationPolicy, delete_object, remove_if_finalized,
};
use crate::object::Object;
use crate::resources::JOB_TRACKING_FINALIZER;
use crate::status_error::StatusError;
use crate::store::Transaction;

/// Deletes a new object if all its owners are gone: they may have been deleted just before it was created.
pub(super) fn delete_if_orphaned(transaction: &mut Transaction<'_>, object: &Object) -> Result<(), StatusError> {
    let owners = object.owner_references();
    if owners.is_empty() {
        return Ok(());
    }
    for owner in &owners {
        if transaction.get_by_uid(owner.uid)?.is_some() {
            return Ok(());
        }
    }
    delete_dependent(transaction, object.clone(), DeleteOptions::default())
}

/// Orphans or deletes the dependents of an object that is being deleted, as its finalizers say.
pub(super) fn propagate_deletion(transaction: &mut Transaction<'_>, object: &Object) -> Result<(), StatusError> {
    if !object.is_deleting() {
        return Ok(());
    }
    let finalizers = object.finalizers();
    if finalizers.contains(&ORPHAN_FINALIZER) {
        for mut dependent in transaction.list_dependents(object.uid())? {
            dependent.remove_owner_reference(object.uid());
            transaction.update(dependent)?;
        }
        remove_finalizer_of(transaction, object, ORPHAN_FINALIZER)?;
    } else if finalizers.contains(&FOREGROUND_FINALIZER) {
        let mut is_blocked = false;
        for dependent in transaction.list_dependents(object.uid())? {
            is_blocked |= dependent
                .owner_references()
                .iter()
                .any(|owner| owner.uid == object.uid() && owner.blocks_deletion);
            if !dependent.is_deleting() {
                let options = DeleteOptions {
                    grace: None,
                    propagation: PropagationPolicy::Foreground,
                };
                delete_dependent(transaction, dependent, options)?;
            }
        }
        if !is_blocked {
            remove_finalizer_of(transaction, object, FOREGROUND_FINALIZER)?;
        }
    } else {
        let current = transaction.get(object.kind, object.namespace(), object.name())?;
        if let Some(current) = current.filter(|current| current.uid() == object.uid()) {
            remove_if_finalized(transaction, current)?;
        }
    }
    Ok(())
}

/// Deletes the dependents of a removed object that have no other owner left, and continues the foreground deletion of
/// owners that waited for the object.
pub(super) fn collect_dependents(transaction: &mut Transaction<'_>, object: &Object) -> Result<(), StatusError> {
    for mut dependent in transaction.list_dependents(object.uid())? {
        let mut has_other_owner = false;
        for owner in dependent.owner_references() {
            has_other_owner |= owner.uid != object.uid() && transaction.get_by_uid(owner.uid)?.is_some();
        }
        if has_other_owner {
            dependent.remove_owner_reference(object.uid());
            transaction.update(dependent)?;
        } else {
            delete_dependent(transaction, dependent, DeleteOptions::default())?;
        }
    }
    for owner in object.owner_references() {
        if let Some(owner) = transaction.get_by_uid(owner.uid)?
            && owner.finalizers().contains(&FOREGROUND_FINALIZER)
        {
            propagate_deletion(transaction, &owner)?;
        }
    }
    Ok(())
}

fn delete_dependent(
    transaction: &mut Transaction<'_>,
    mut object: Object,
    options: DeleteOptions,
) -> Result<(), StatusError> {
    // The Job is gone that would have counted the pod and removed the finalizer.
    object.remove_finalizer(JOB_TRACKING_FINALIZER);
    let object = transaction.update(object)?;
    delete_object(transaction, object, options).map(drop)
}

fn remove_finalizer_of(transaction: &mut Transaction<'_>, object: &Object, finalizer: &str) -> Result<(), StatusError> {
    let Some(mut object) = transaction.get_by_uid(object.uid())? else {
        return Ok(());
    };
    object.remove_finalizer(finalizer);
    let object = transaction.update(object)?;
    remove_if_finalized(transaction, object).map(drop)
}
