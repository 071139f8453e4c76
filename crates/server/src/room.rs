//! Memory budgets that requests share, limited in total, per client, and per user.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use task::UserName;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::caller::Client;

/// The number of bytes that one permit stands for.
const UNIT: usize = 1024;

/// A memory budget that requests share.
pub struct Rooms {
    all: Arc<Semaphore>,
    clients: Each<Client>,
    users: Each<UserName>,
}

/// A share of the budget, which is released when this is dropped.
#[derive(Debug)]
pub struct Room {
    _permits: Vec<OwnedSemaphorePermit>,
}

/// Whom a request's memory is charged to.
#[derive(Debug, Clone)]
pub struct Sender {
    /// Where the connection comes from. All users of a proxy are one client.
    pub client: Client,
    /// The user in the X-User header. Without a proxy, a client can claim to be any user, so this alone is no limit.
    pub user: Option<UserName>,
}

impl Rooms {
    /// Creates a budget of `bytes`. One client can hold at most three quarters of it, and one user a quarter. This way,
    /// neither a client that claims many user names nor a single user behind a shared proxy can exhaust the budget.
    pub fn new(bytes: usize) -> Self {
        let units = bytes / UNIT;
        Self {
            all: Arc::new(Semaphore::new(units)),
            clients: Each::new(units / 4 * 3),
            users: Each::new(units / 4),
        }
    }

    /// Waits for a share. A request for more than a user's limit is charged only that limit, so that it can be granted
    /// at all. The semaphores are never closed, so waiting does not end with `None`.
    pub async fn take(&self, sender: &Sender, bytes: usize) -> Option<Room> {
        let units = bytes.div_ceil(UNIT).min(self.users.most);
        let units = u32::try_from(units).ok()?;
        // Take the narrowest limit first, and always in this order: a request that waits for its own user's limit then
        // holds nothing that other users or clients need.
        let mut permits = Vec::with_capacity(3);
        if let Some(user) = &sender.user {
            permits.push(self.users.of(user.clone()).acquire_many_owned(units).await.ok()?);
        }
        permits.push(self.clients.of(sender.client).acquire_many_owned(units).await.ok()?);
        permits.push(Arc::clone(&self.all).acquire_many_owned(units).await.ok()?);
        Some(Room { _permits: permits })
    }
}

/// The same number of permits for each owner.
struct Each<K> {
    most: usize,
    semaphores: Mutex<HashMap<K, Weak<Semaphore>>>,
}

impl<K: Eq + Hash> Each<K> {
    fn new(most: usize) -> Self {
        Self {
            most,
            semaphores: Mutex::default(),
        }
    }

    fn of(&self, owner: K) -> Arc<Semaphore> {
        let mut semaphores = self.semaphores.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(semaphore) = semaphores.get(&owner).and_then(Weak::upgrade) {
            return semaphore;
        }
        if semaphores.len() == semaphores.capacity() {
            // Remove owners that neither hold nor wait for permits. Only when the map would grow, to keep this rare.
            semaphores.retain(|_, semaphore| semaphore.strong_count() > 0);
        }
        let semaphore = Arc::new(Semaphore::new(self.most));
        semaphores.insert(owner, Arc::downgrade(&semaphore));
        semaphore
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::{Each, Room, Rooms, Sender};
    use crate::caller::Client;

    const MIB: usize = 1 << 20;

    fn sender(client: u8, user: &str) -> Sender {
        Sender {
            client: Client::Address([192, 0, 2, client].into()),
            user: task::UserName::from_headers([user.as_bytes()]).ok(),
        }
    }

    fn taken(rooms: &Rooms, sender: &Sender, bytes: usize) -> Option<Room> {
        rooms.take(sender, bytes).now_or_never().flatten()
    }

    #[test]
    fn one_user_and_one_client_leave_room_for_others() {
        let rooms = Rooms::new(32 * MIB);
        let mut held = Vec::new();
        for user in ["a", "b", "c"] {
            // Two shares of 4 MiB are a quarter of the budget.
            held.extend((0..2).map(|_| taken(&rooms, &sender(1, user), 4 * MIB).unwrap()));
            assert!(taken(&rooms, &sender(1, user), MIB).is_none(), "{user} holds a quarter");
            assert!(taken(&rooms, &sender(2, user), MIB).is_none(), "from any client");
        }
        assert!(
            taken(&rooms, &sender(1, "d"), MIB).is_none(),
            "the client holds three quarters"
        );
        let other = taken(&rooms, &sender(2, "d"), 8 * MIB).unwrap();
        assert!(taken(&rooms, &sender(3, "e"), MIB).is_none(), "the budget is used up");
        drop(held);
        assert!(taken(&rooms, &sender(3, "e"), MIB).is_some());
        drop(other);
    }

    #[test]
    fn who_holds_nothing_is_forgotten() {
        let each = Each::new(1);
        let kept = each.of(0);
        for owner in 1..10_000 {
            each.of(owner);
        }
        assert!(each.semaphores.lock().unwrap().len() < 100);
        assert!(std::sync::Arc::ptr_eq(&kept, &each.of(0)));
    }
}
