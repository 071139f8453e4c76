//! Limits the number of concurrent uses of a resource, in total and per owner.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The limits of a shared resource, and what is in use.
#[derive(Debug, Clone)]
pub struct ConcurrencyLimit<K> {
    total: Arc<Semaphore>,
    max_per_owner: usize,
    /// The number of uses of each owner.
    counts: Arc<Mutex<HashMap<K, usize>>>,
}

/// One use of the resource, which ends when this is dropped.
#[derive(Debug)]
pub struct ConcurrencyPermit<K: Eq + Hash> {
    _permit: OwnedSemaphorePermit,
    owner: K,
    counts: Arc<Mutex<HashMap<K, usize>>>,
}

/// A use that counts toward the total, but not yet toward an owner's limit.
#[derive(Debug)]
pub struct UnassignedPermit(OwnedSemaphorePermit);

/// Why a use was denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitReached {
    /// The total limit is reached.
    Total,
    /// The owner's limit is reached.
    PerOwner,
}

impl<K: Eq + Hash + Clone> ConcurrencyLimit<K> {
    /// Allows `max_total` uses in total, of which `max_per_owner` may belong to the same owner.
    pub fn new(max_total: usize, max_per_owner: usize) -> Self {
        Self {
            total: Arc::new(Semaphore::new(max_total.min(Semaphore::MAX_PERMITS))),
            max_per_owner,
            counts: Arc::default(),
        }
    }

    /// The limit of one owner.
    pub fn max_per_owner(&self) -> usize {
        self.max_per_owner
    }

    /// Takes one use for `owner`.
    pub fn try_acquire(&self, owner: K) -> Result<ConcurrencyPermit<K>, LimitReached> {
        self.assign(self.try_acquire_unassigned()?, owner)
    }

    /// Takes one use before its owner is known, so that finding out the owner is itself within the total limit.
    pub fn try_acquire_unassigned(&self) -> Result<UnassignedPermit, LimitReached> {
        let permit = Arc::clone(&self.total).try_acquire_owned();
        permit.map(UnassignedPermit).map_err(|_| LimitReached::Total)
    }

    /// Assigns a use to its owner. On failure, the use is released.
    pub fn assign(
        &self,
        UnassignedPermit(permit): UnassignedPermit,
        owner: K,
    ) -> Result<ConcurrencyPermit<K>, LimitReached> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.get(&owner).copied().unwrap_or_default();
        if count >= self.max_per_owner {
            return Err(LimitReached::PerOwner);
        }
        counts.insert(owner.clone(), count + 1);
        Ok(ConcurrencyPermit {
            _permit: permit,
            owner,
            counts: Arc::clone(&self.counts),
        })
    }
}

impl<K: Eq + Hash> Drop for ConcurrencyPermit<K> {
    fn drop(&mut self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.owner) {
            *count -= 1;
            if *count == 0 {
                // Otherwise the map would grow with every owner ever seen.
                counts.remove(&self.owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ConcurrencyLimit, LimitReached};

    #[test]
    fn one_has_no_more_than_allowed_and_what_is_given_back_can_be_taken() {
        let limit = ConcurrencyLimit::new(3, 2);
        let first = limit.try_acquire("alice").unwrap();
        let _second = limit.try_acquire("alice").unwrap();
        assert_eq!(limit.try_acquire("alice").unwrap_err(), LimitReached::PerOwner);
        let _other = limit.try_acquire("bob").unwrap();
        assert_eq!(limit.try_acquire("bob").unwrap_err(), LimitReached::Total);
        drop(first);
        assert!(limit.try_acquire("alice").is_ok());
        assert_eq!(
            limit.counts.lock().unwrap().len(),
            2,
            "an owner without uses is removed"
        );
    }
}
