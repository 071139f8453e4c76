//! The part of the public interface about lists of tasks and their changes.

use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, stream};
use task::UserName;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::Executor;
use crate::cache::{Cache, ChangeCursor, Changes, Health};
use crate::error::Error;
use crate::task_list::{self, TaskFilter, TaskList};

/// How often to check whether the cache is still up to date while nothing changes.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// The least time between two batches of changes. A task that starts changes several times within it, and a thousand
/// clients need not wake for each.
const BATCH_PAUSE: Duration = Duration::from_millis(20);

/// A reader of changes.
struct Reader {
    cache: Arc<Cache>,
    health: Arc<Health>,
    changed: watch::Receiver<u64>,
    user: Option<UserName>,
    /// The cursor behind what was read.
    since: Option<ChangeCursor>,
    is_open: bool,
}

impl Executor {
    /// Tasks of one user, or of all users, that match a filter, oldest first.
    ///
    /// # Errors
    /// [`Error::OutOfSync`].
    pub fn list_tasks(&self, user: Option<&UserName>, filter: &TaskFilter) -> Result<TaskList, Error> {
        self.health.check()?;
        let tasks = self.cache.tasks(user).into_iter().map(|(_, task)| task);
        Ok(task_list::select(tasks.collect(), filter))
    }

    /// The changes of the tasks of one user, or of all users, since a cursor. The first item comes at once: all tasks if
    /// there is no cursor or it is not known, or else what has changed. The stream ends with [`Error::OutOfSync`] when
    /// the cache is not up to date anymore.
    pub fn task_events(
        &self,
        user: Option<UserName>,
        since: Option<ChangeCursor>,
    ) -> impl Stream<Item = Result<Changes, Error>> + Send + use<> {
        let reader = Reader {
            changed: self.cache.subscribe_to_changes(),
            cache: Arc::clone(&self.cache),
            health: Arc::clone(&self.health),
            user,
            since,
            is_open: false,
        };
        stream::unfold(Some(reader), async |reader| {
            let mut reader = reader?;
            match reader.next().await {
                Ok(changes) => Some((Ok(changes), Some(reader))),
                Err(error) => Some((Err(error), None)),
            }
        })
    }
}

impl Reader {
    async fn next(&mut self) -> Result<Changes, Error> {
        if self.is_open {
            sleep(BATCH_PAUSE).await;
        }
        loop {
            self.health.check()?;
            // Before the changes are read: one that comes in between wakes the next wait.
            self.changed.mark_unchanged();
            let changes = self.cache.changes_since(self.user.as_ref(), self.since);
            self.since = Some(changes.cursor);
            if !changes.events.is_empty() || !std::mem::replace(&mut self.is_open, true) {
                return Ok(changes);
            }
            // The sender is a part of the cache, so it never closes. A timeout only leads to the next check.
            let _ = timeout(CHECK_INTERVAL, self.changed.changed()).await;
        }
    }
}
