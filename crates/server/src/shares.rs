//! Limits the number of concurrent uses of a resource, in total and per owner.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The limits of a shared resource, and what is in use.
#[derive(Debug, Clone)]
pub struct Shares<K> {
    all: Arc<Semaphore>,
    most_of_one: usize,
    taken: Arc<Mutex<HashMap<K, usize>>>,
}

/// One use of the resource, which ends when this is dropped.
#[derive(Debug)]
pub struct Share<K: Eq + Hash> {
    _permit: OwnedSemaphorePermit,
    owner: K,
    taken: Arc<Mutex<HashMap<K, usize>>>,
}

/// A use that counts toward the total, but not yet toward an owner's limit.
#[derive(Debug)]
pub struct Place(OwnedSemaphorePermit);

/// Why a use was denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoShare {
    /// The total limit is reached.
    AllTaken,
    /// The owner's limit is reached.
    OneHasMost,
}

impl<K: Eq + Hash + Clone> Shares<K> {
    /// Allows `most` uses in total, of which `most_of_one` may belong to the same owner.
    pub fn new(most: usize, most_of_one: usize) -> Self {
        Self {
            all: Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS))),
            most_of_one,
            taken: Arc::default(),
        }
    }

    /// The limit of one owner.
    pub fn most_of_one(&self) -> usize {
        self.most_of_one
    }

    /// Takes one use for `owner`.
    pub fn take(&self, owner: K) -> Result<Share<K>, NoShare> {
        self.take_place(self.place()?, owner)
    }

    /// Takes one use before its owner is known, so that finding out the owner is itself within the total limit.
    pub fn place(&self) -> Result<Place, NoShare> {
        let permit = Arc::clone(&self.all).try_acquire_owned();
        permit.map(Place).map_err(|_| NoShare::AllTaken)
    }

    /// Assigns a use to its owner. On failure, the use is released.
    pub fn take_place(&self, Place(permit): Place, owner: K) -> Result<Share<K>, NoShare> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let own = taken.get(&owner).copied().unwrap_or_default();
        if own >= self.most_of_one {
            return Err(NoShare::OneHasMost);
        }
        taken.insert(owner.clone(), own + 1);
        Ok(Share {
            _permit: permit,
            owner,
            taken: Arc::clone(&self.taken),
        })
    }
}

impl<K: Eq + Hash> Drop for Share<K> {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = taken.get_mut(&self.owner) {
            *own -= 1;
            if *own == 0 {
                // Otherwise the map would grow with every owner ever seen.
                taken.remove(&self.owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{NoShare, Shares};

    #[test]
    fn one_has_no_more_than_allowed_and_what_is_given_back_can_be_taken() {
        let shares = Shares::new(3, 2);
        let first = shares.take("alice").unwrap();
        let _second = shares.take("alice").unwrap();
        assert_eq!(shares.take("alice").unwrap_err(), NoShare::OneHasMost);
        let _other = shares.take("bob").unwrap();
        assert_eq!(shares.take("bob").unwrap_err(), NoShare::AllTaken);
        drop(first);
        assert!(shares.take("alice").is_ok());
        assert_eq!(
            shares.taken.lock().unwrap().len(),
            2,
            "an owner without uses is removed"
        );
    }
}
