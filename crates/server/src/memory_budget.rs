//! Memory budgets that requests share, limited in total, per client, and per user.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use task::UserName;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::client::{ClientId, Requester};

/// The number of bytes that one semaphore permit stands for.
const BYTES_PER_PERMIT: usize = 1024;

/// A memory budget that requests share.
pub(crate) struct MemoryBudget {
    total: Arc<Semaphore>,
    clients: KeyedSemaphores<ClientId>,
    users: KeyedSemaphores<UserName>,
}

/// A share of the budget, which is released when this is dropped.
#[derive(Debug)]
pub struct MemoryPermit {
    _permits: Vec<OwnedSemaphorePermit>,
}

impl MemoryBudget {
    /// Creates a budget of `bytes`. One client can hold at most three quarters of it, and one user a quarter. This way,
    /// neither a client that claims many user names nor a single user behind a shared proxy can exhaust the budget.
    pub(crate) fn new(bytes: usize) -> Self {
        let permits = bytes / BYTES_PER_PERMIT;
        Self {
            total: Arc::new(Semaphore::new(permits)),
            clients: KeyedSemaphores::new(permits / 4 * 3),
            users: KeyedSemaphores::new(permits / 4),
        }
    }

    /// Waits for a share. A request for more than a user's limit is charged only that limit, so that it can be granted
    /// at all. The semaphores are never closed, so waiting does not end with `None`.
    pub(crate) async fn acquire(&self, requester: &Requester, bytes: usize) -> Option<MemoryPermit> {
        let count = bytes.div_ceil(BYTES_PER_PERMIT).min(self.users.permits_per_key);
        let count = u32::try_from(count).ok()?;
        // Take the narrowest limit first, and always in this order: a request that waits for its own user's limit then
        // holds nothing that other users or clients need.
        let mut permits = Vec::with_capacity(3);
        if let Some(user) = &requester.user {
            permits.push(
                self.users
                    .get_or_create(user.clone())
                    .acquire_many_owned(count)
                    .await
                    .ok()?,
            );
        }
        permits.push(
            self.clients
                .get_or_create(requester.client)
                .acquire_many_owned(count)
                .await
                .ok()?,
        );
        permits.push(Arc::clone(&self.total).acquire_many_owned(count).await.ok()?);
        Some(MemoryPermit { _permits: permits })
    }
}

/// A semaphore with the same number of permits for each key.
struct KeyedSemaphores<K> {
    permits_per_key: usize,
    semaphores: Mutex<HashMap<K, Weak<Semaphore>>>,
}

impl<K: Eq + Hash> KeyedSemaphores<K> {
    fn new(permits_per_key: usize) -> Self {
        Self {
            permits_per_key,
            semaphores: Mutex::default(),
        }
    }

    fn get_or_create(&self, key: K) -> Arc<Semaphore> {
        let mut semaphores = self.semaphores.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(semaphore) = semaphores.get(&key).and_then(Weak::upgrade) {
            return semaphore;
        }
        if semaphores.len() == semaphores.capacity() {
            // Remove keys that neither hold nor wait for permits. Only when the map would grow, to keep this rare.
            semaphores.retain(|_, semaphore| semaphore.strong_count() > 0);
        }
        let semaphore = Arc::new(Semaphore::new(self.permits_per_key));
        semaphores.insert(key, Arc::downgrade(&semaphore));
        semaphore
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::{KeyedSemaphores, MemoryBudget, MemoryPermit};
    use crate::client::{ClientId, Requester};

    const MIB: usize = 1 << 20;

    fn requester(client: u8, user: &str) -> Requester {
        Requester {
            client: ClientId::Address([192, 0, 2, client].into()),
            user: task::UserName::parse(user).ok(),
        }
    }

    fn try_acquire(budget: &MemoryBudget, requester: &Requester, bytes: usize) -> Option<MemoryPermit> {
        budget.acquire(requester, bytes).now_or_never().flatten()
    }

    #[test]
    fn one_user_and_one_client_leave_room_for_others() {
        let budget = MemoryBudget::new(32 * MIB);
        let mut held = Vec::new();
        for user in ["a", "b", "c"] {
            // Two shares of 4 MiB are a quarter of the budget.
            held.extend((0..2).map(|_| try_acquire(&budget, &requester(1, user), 4 * MIB).unwrap()));
            assert!(
                try_acquire(&budget, &requester(1, user), MIB).is_none(),
                "{user} holds a quarter"
            );
            assert!(
                try_acquire(&budget, &requester(2, user), MIB).is_none(),
                "from any client"
            );
        }
        assert!(
            try_acquire(&budget, &requester(1, "d"), MIB).is_none(),
            "the client holds three quarters"
        );
        let other = try_acquire(&budget, &requester(2, "d"), 8 * MIB).unwrap();
        assert!(
            try_acquire(&budget, &requester(3, "e"), MIB).is_none(),
            "the budget is used up"
        );
        drop(held);
        assert!(try_acquire(&budget, &requester(3, "e"), MIB).is_some());
        drop(other);
    }

    #[test]
    fn who_holds_nothing_is_forgotten() {
        let semaphores = KeyedSemaphores::new(1);
        let held = semaphores.get_or_create(0);
        for key in 1..10_000 {
            semaphores.get_or_create(key);
        }
        assert!(semaphores.semaphores.lock().unwrap().len() < 100);
        assert!(std::sync::Arc::ptr_eq(&held, &semaphores.get_or_create(0)));
    }
}
