//! Memory that requests share, in bytes: so much for all, for each client, and for each user.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use task::UserName;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::caller::Client;

/// What one permit stands for, in bytes.
const UNIT: usize = 1024;

/// Room that several share.
pub struct Rooms {
    all: Arc<Semaphore>,
    clients: Each<Client>,
    users: Each<UserName>,
}

/// A part of it, until this is dropped.
#[derive(Debug)]
pub struct Room {
    _permits: Vec<OwnedSemaphorePermit>,
}

/// Who wants room.
#[derive(Debug, Clone)]
pub struct Sender {
    /// Where the connection comes from. A proxy is one client for all who use it.
    pub client: Client,
    /// Who that says to be; who asks without a proxy can say anything.
    pub user: Option<UserName>,
}

impl Rooms {
    /// So many bytes in all. One client has three quarters of it at most, and one user a quarter, so that neither a client with
    /// many names nor a user behind everybody's proxy takes all of it.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        let units = bytes / UNIT;
        Self {
            all: Arc::new(Semaphore::new(units)),
            clients: Each::new(units / 4 * 3),
            users: Each::new(units / 4),
        }
    }

    /// Waits for room; more than a user may have counts as that. `None` when the server has no more to give.
    pub async fn take(&self, sender: &Sender, bytes: usize) -> Option<Room> {
        let units = bytes.div_ceil(UNIT).min(self.users.most);
        let units = u32::try_from(units).ok()?;
        // The narrowest first, in one order: who waits for the others' holds nothing that they need.
        let mut permits = Vec::with_capacity(3);
        if let Some(user) = &sender.user {
            permits.push(self.users.of(user.clone()).acquire_many_owned(units).await.ok()?);
        }
        permits.push(self.clients.of(sender.client).acquire_many_owned(units).await.ok()?);
        permits.push(Arc::clone(&self.all).acquire_many_owned(units).await.ok()?);
        Some(Room { _permits: permits })
    }
}

/// The same number of permits for each.
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
            // Before the map grows, so that this is rare. Who holds nothing and waits for nothing is forgotten.
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
            // Two of 4 MiB are a quarter.
            held.extend((0..2).map(|_| taken(&rooms, &sender(1, user), 4 * MIB).unwrap()));
            assert!(taken(&rooms, &sender(1, user), MIB).is_none(), "{user} has a quarter");
            assert!(taken(&rooms, &sender(2, user), MIB).is_none(), "on every way");
        }
        assert!(
            taken(&rooms, &sender(1, "d"), MIB).is_none(),
            "the client has three quarters"
        );
        let other = taken(&rooms, &sender(2, "d"), 8 * MIB).unwrap();
        assert!(taken(&rooms, &sender(3, "e"), MIB).is_none(), "that is all");
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
