//! So much of something for all together, and so much for each.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What is left of something that several share.
#[derive(Debug, Clone)]
pub struct Shares<K> {
    all: Arc<Semaphore>,
    most_of_one: usize,
    taken: Arc<Mutex<HashMap<K, usize>>>,
}

/// A part of it, until this is dropped.
#[derive(Debug)]
pub struct Share<K: Eq + Hash> {
    _permit: OwnedSemaphorePermit,
    owner: K,
    taken: Arc<Mutex<HashMap<K, usize>>>,
}

/// A part that nobody's name is on yet.
#[derive(Debug)]
pub struct Place(OwnedSemaphorePermit);

/// Why there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoShare {
    /// All of it is taken.
    AllTaken,
    /// This one has as much as one may have.
    OneHasMost,
}

impl<K: Eq + Hash + Clone> Shares<K> {
    /// So much in all, and so much of it for one.
    #[must_use]
    pub fn new(most: usize, most_of_one: usize) -> Self {
        Self {
            all: Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS))),
            most_of_one,
            taken: Arc::default(),
        }
    }

    /// The most that one may have.
    #[must_use]
    pub fn most_of_one(&self) -> usize {
        self.most_of_one
    }

    /// Takes one part.
    ///
    /// # Errors
    /// There is none for this one.
    pub fn take(&self, owner: K) -> Result<Share<K>, NoShare> {
        self.take_place(self.place()?, owner)
    }

    /// Takes one part for whom is not known yet.
    ///
    /// # Errors
    /// There is none for anybody.
    pub fn place(&self) -> Result<Place, NoShare> {
        let permit = Arc::clone(&self.all).try_acquire_owned();
        permit.map(Place).map_err(|_| NoShare::AllTaken)
    }

    /// Counts such a part as one's, now that it is known whose.
    ///
    /// # Errors
    /// This one has as much as one may have.
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
        assert_eq!(shares.taken.lock().unwrap().len(), 2, "who has nothing is forgotten");
    }
}
