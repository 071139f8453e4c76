//! Queues the packing of files, which takes memory and CPU, so that no user holds up the others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use task::UserName;
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::error::Error;

/// How many file sets are packed at once, of different users.
const AT_ONCE: usize = 2;

/// How long a submit waits for its turn.
const PATIENCE: Duration = Duration::from_secs(60);

/// Gives turns: one at a time to each user, in the order of the requests.
#[derive(Debug)]
pub(super) struct PackingQueue {
    users: Mutex<HashMap<UserName, Weak<tokio::sync::Mutex<()>>>>,
    all: Arc<Semaphore>,
}

/// A turn, which ends when it is dropped.
pub(super) struct Turn {
    _user: OwnedMutexGuard<()>,
    _all: Option<OwnedSemaphorePermit>,
}

impl Default for PackingQueue {
    fn default() -> Self {
        Self {
            users: Mutex::default(),
            all: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }
}

impl PackingQueue {
    /// Waits for a turn of this user.
    ///
    /// # Errors
    /// [`Error::FilesBusy`] if that takes too long.
    pub(super) async fn turn(&self, user: &UserName) -> Result<Turn, Error> {
        let of_user = self.of_user(user);
        let wait = async {
            let user = of_user.lock_owned().await;
            // The semaphore is never closed.
            let all = Arc::clone(&self.all).acquire_owned().await.ok();
            Turn { _user: user, _all: all }
        };
        timeout(PATIENCE, wait).await.map_err(|_| Error::FilesBusy)
    }

    fn of_user(&self, user: &UserName) -> Arc<tokio::sync::Mutex<()>> {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = users.get(user).and_then(Weak::upgrade) {
            return known;
        }
        users.retain(|_, turns| turns.strong_count() > 0);
        let new = Arc::default();
        users.insert(user.clone(), Arc::downgrade(&new));
        new
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use task::UserName;
    use tokio::time::timeout;

    use super::PackingQueue;
    use crate::error::Error;

    #[tokio::test(start_paused = true)]
    async fn a_user_has_one_turn_at_a_time_and_leaves_one_to_others() {
        let queue = PackingQueue::default();
        let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| UserName::parse(name).unwrap());
        let first = queue.turn(&alice).await.unwrap();
        assert!(matches!(queue.turn(&alice).await, Err(Error::FilesBusy)));
        let _second = queue.turn(&bob).await.unwrap();
        let third = queue.turn(&carol);
        tokio::pin!(third);
        assert!(timeout(Duration::from_secs(1), &mut third).await.is_err());
        drop(first);
        third.await.unwrap();
    }
}
