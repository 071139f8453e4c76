//! The garbage collector: deletes dependents with their owners.

use super::delete::{FOREGROUND, ORPHAN, Options, Propagation, delete, settle};
use crate::object::Object;
use crate::refusal::Refusal;
use crate::resources::pod::TRACKING;
use crate::store::Transaction;

/// Deletes a new object if all its owners are gone: they may have been deleted just before it was created.
pub(super) fn created(transaction: &mut Transaction<'_>, object: &Object) -> Result<(), Refusal> {
    let owners = object.owners();
    if owners.is_empty() {
        return Ok(());
    }
    for owner in &owners {
        if transaction.by_uid(owner.uid)?.is_some() {
            return Ok(());
        }
    }
    delete_dependent(transaction, object.clone(), Options::default())
}

/// Orphans or deletes the dependents of an object that is being deleted, as its finalizers say.
pub(super) fn deleting(transaction: &mut Transaction<'_>, object: &Object) -> Result<(), Refusal> {
    if !object.is_deleting() {
        return Ok(());
    }
    let finalizers = object.finalizers();
    if finalizers.contains(&ORPHAN) {
        for mut dependent in transaction.dependents(object.uid())? {
            dependent.remove_owner(object.uid());
            transaction.update(dependent)?;
        }
        release(transaction, object, ORPHAN)?;
    } else if finalizers.contains(&FOREGROUND) {
        let mut blocked = false;
        for dependent in transaction.dependents(object.uid())? {
            blocked |= dependent
                .owners()
                .iter()
                .any(|owner| owner.uid == object.uid() && owner.blocks);
            if !dependent.is_deleting() {
                let options = Options {
                    grace: None,
                    propagation: Propagation::Foreground,
                };
                delete_dependent(transaction, dependent, options)?;
            }
        }
        if !blocked {
            release(transaction, object, FOREGROUND)?;
        }
    } else {
        let current = transaction.get(object.kind, object.namespace(), object.name())?;
        if let Some(current) = current.filter(|current| current.uid() == object.uid()) {
            settle(transaction, current)?;
        }
    }
    Ok(())
}

/// Deletes the dependents of a removed object that have no other owner left, and continues the foreground deletion of
/// owners that waited for the object.
pub(super) fn removed(transaction: &mut Transaction<'_>, object: &Object) -> Result<(), Refusal> {
    for mut dependent in transaction.dependents(object.uid())? {
        let mut others = false;
        for owner in dependent.owners() {
            others |= owner.uid != object.uid() && transaction.by_uid(owner.uid)?.is_some();
        }
        if others {
            dependent.remove_owner(object.uid());
            transaction.update(dependent)?;
        } else {
            delete_dependent(transaction, dependent, Options::default())?;
        }
    }
    for owner in object.owners() {
        if let Some(owner) = transaction.by_uid(owner.uid)?
            && owner.finalizers().contains(&FOREGROUND)
        {
            deleting(transaction, &owner)?;
        }
    }
    Ok(())
}

fn delete_dependent(transaction: &mut Transaction<'_>, mut object: Object, options: Options) -> Result<(), Refusal> {
    // The Job is gone that would have counted the pod and removed the finalizer.
    object.remove_finalizer(TRACKING);
    let object = transaction.update(object)?;
    delete(transaction, object, options).map(drop)
}

fn release(transaction: &mut Transaction<'_>, object: &Object, finalizer: &str) -> Result<(), Refusal> {
    let Some(mut object) = transaction.by_uid(object.uid())? else {
        return Ok(());
    };
    object.remove_finalizer(finalizer);
    let object = transaction.update(object)?;
    settle(transaction, object).map(drop)
}
