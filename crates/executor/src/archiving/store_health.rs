//! Whether the archive works: from the outcomes of its calls, and from how long they have been waiting.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// How long all calls may wait before the archive counts as stuck. The client of a bucket retries for minutes before a call
/// fails, and a mount that hangs never fails.
const PATIENCE: Duration = Duration::from_secs(1);

/// The outcomes of calls.
#[derive(Debug, Default)]
pub(super) struct StoreHealth(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The number of calls that are waiting.
    calls: usize,
    /// Since when none of them has ended.
    waiting_since: Option<Instant>,
    /// Whether the last call that ended has failed.
    has_failed: bool,
}

/// A call that is waiting.
pub(super) struct Call<'a>(&'a StoreHealth);

impl StoreHealth {
    /// Notes that a call begins. It ends when this is dropped.
    pub(crate) fn begin_call(&self) -> Call<'_> {
        let mut state = self.lock();
        state.calls += 1;
        state.waiting_since.get_or_insert_with(Instant::now);
        Call(self)
    }

    /// Notes that a call has ended well, or has failed.
    pub(crate) fn note(&self, has_failed: bool) {
        let mut state = self.lock();
        state.has_failed = has_failed;
        if !has_failed {
            state.waiting_since = (state.calls > 0).then(Instant::now);
        }
    }

    /// Whether the last call has failed, or all calls have been waiting for a while.
    #[cfg(test)]
    pub(crate) fn is_stuck(&self) -> bool {
        self.stuck_at().is_some_and(|time| time <= Instant::now())
    }

    /// Waits until the archive is stuck.
    pub(crate) async fn until_stuck(&self) {
        loop {
            match self.stuck_at() {
                Some(time) if time <= Instant::now() => return,
                Some(time) => sleep_until(time).await,
                // A call that begins meanwhile has its time, too.
                None => sleep_until(Instant::now() + PATIENCE).await,
            }
        }
    }

    /// When the archive counts as stuck if no call ends.
    fn stuck_at(&self) -> Option<Instant> {
        let state = self.lock();
        match state.has_failed {
            true => Some(Instant::now()),
            false => state.waiting_since.map(|since| since + PATIENCE),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.calls -= 1;
        if state.calls == 0 {
            state.waiting_since = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{Instant, advance};

    use super::StoreHealth;

    #[tokio::test(start_paused = true)]
    async fn an_archive_is_stuck_once_all_calls_have_been_waiting_for_a_second() {
        let health = StoreHealth::default();
        let _hanging = health.begin_call();
        for _ in 0..5 {
            advance(Duration::from_millis(600)).await;
            // It is only slow.
            let other = health.begin_call();
            assert!(!health.is_stuck());
            health.note(false);
            drop(other);
        }
        let start = Instant::now();
        health.until_stuck().await;
        assert!(health.is_stuck());
        assert_eq!(start.elapsed().as_secs(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn an_archive_that_has_failed_is_stuck_until_a_call_succeeds() {
        let health = StoreHealth::default();
        let call = health.begin_call();
        health.note(true);
        drop(call);
        health.until_stuck().await;
        assert!(health.is_stuck());
        health.note(false);
        assert!(!health.is_stuck());
        advance(Duration::from_secs(60)).await;
        assert!(!health.is_stuck(), "nothing is waiting");
    }
}
