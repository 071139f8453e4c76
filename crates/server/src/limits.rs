//! What is allowed at once, and what is said to the one that is too much.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use task::UserName;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::ApiError;

/// The largest request body: scripts and variables of a megabyte each, with what JSON adds to them.
pub const MAX_BODY_BYTES: usize = 4 * 1024 * 1024;

/// How long a body may take to arrive.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the head of a request may take to arrive, and a connection may be idle.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// The largest head of a request: 64 KiB, more than any proxy passes on.
pub const MAX_HEAD_BYTES: usize = 64 * 1024;

/// The most headers of a request.
pub const MAX_HEADERS: usize = 100;

/// The most requests that change something at once. Each waits for Kubernetes, which queues them as well.
const MAX_CHANGES: usize = 512;

/// How long the log streams get to end when the server stops, before their connections are cut.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// The limits that depend on what happens now.
pub struct Limits {
    changes: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    max_streams_per_user: usize,
    streams_of: Arc<Mutex<HashMap<UserName, usize>>>,
}

/// The right to hold a log stream.
pub struct StreamPermit {
    _permit: OwnedSemaphorePermit,
    user: UserName,
    streams_of: Arc<Mutex<HashMap<UserName, usize>>>,
}

impl Limits {
    /// Limits for log streams, of all users and of each.
    #[must_use]
    pub fn new(max_streams: usize, max_streams_per_user: usize) -> Self {
        Self {
            changes: Arc::new(Semaphore::new(MAX_CHANGES)),
            streams: Arc::new(Semaphore::new(max_streams.min(Semaphore::MAX_PERMITS))),
            max_streams_per_user,
            streams_of: Arc::default(),
        }
    }

    /// Asks for the right to change something.
    pub fn change(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        let permit = Arc::clone(&self.changes).try_acquire_owned();
        permit.map_err(|_| ApiError::Busy("too many requests at once; try again in a second".to_owned()))
    }

    /// Asks for the right to hold a log stream.
    pub fn stream(&self, user: &UserName) -> Result<StreamPermit, ApiError> {
        let permit = Arc::clone(&self.streams)
            .try_acquire_owned()
            .map_err(|_| ApiError::Busy("too many log streams at once; close one, or try again later".to_owned()))?;
        let mut streams_of = self.streams_of.lock().unwrap_or_else(PoisonError::into_inner);
        let open = streams_of.entry(user.clone()).or_default();
        if *open >= self.max_streams_per_user {
            let most = self.max_streams_per_user;
            return Err(ApiError::TooMany(format!(
                "you have {most} log streams open; close one first"
            )));
        }
        *open += 1;
        drop(streams_of);
        metrics::gauge!("k8s_cli_log_followers").increment(1.0);
        Ok(StreamPermit {
            _permit: permit,
            user: user.clone(),
            streams_of: Arc::clone(&self.streams_of),
        })
    }
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        metrics::gauge!("k8s_cli_log_followers").decrement(1.0);
        let mut streams_of = self.streams_of.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = streams_of.get_mut(&self.user) {
            *open -= 1;
            if *open == 0 {
                streams_of.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use task::UserName;

    use super::Limits;

    #[test]
    fn a_user_has_no_more_streams_than_allowed_and_gets_them_back() {
        let limits = Limits::new(3, 2);
        let [alice, bob] = ["alice", "bob"].map(|name| UserName::from_headers([name.as_bytes()]).unwrap());
        let first = limits.stream(&alice).unwrap_or_else(|_| panic!("the first"));
        let _second = limits.stream(&alice).unwrap_or_else(|_| panic!("the second"));
        assert!(limits.stream(&alice).is_err());
        let _other = limits.stream(&bob).unwrap_or_else(|_| panic!("another user's"));
        assert!(limits.stream(&bob).is_err());
        drop(first);
        assert!(limits.stream(&alice).is_ok());
    }
}
