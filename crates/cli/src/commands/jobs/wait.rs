//! `k8s-cli jobs wait`.

use std::time::Duration;

use futures::future::try_join_all;
use task::TaskState;
use task::wire::TaskStatus;
use tokio::time::{sleep, timeout};

use super::outcome::sentence;
use crate::args::{Conditions, Wait};
use crate::client::Away;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::output::say;
use crate::things::{find_all, get};

/// Polling interval: starts short, so that short tasks are reported soon, and doubles up to the maximum, so that
/// waiting for hours is cheap.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Runs the command.
///
/// # Errors
/// [`Error::Several`] if a task can no longer reach the state, [`Error::TimedOut`] on timeout.
pub async fn run(context: &Context, args: Wait) -> Result<()> {
    let all = async {
        let tasks = find_all::<TaskStatus>(&context.client, &args.tasks, false).await?;
        let ids = tasks.iter().map(|kept| &kept.item.task_id);
        try_join_all(ids.map(|id| one(context, id, args.condition, args.quiet))).await
    };
    tokio::select! {
        done = async {
            match args.timeout {
                Some(limit) => timeout(limit, all).await.unwrap_or_else(|_| Err(Error::TimedOut(format!("timed out waiting for the condition after {limit:?}")))),
                None => all.await,
            }
        } => done.map(drop),
        interrupted = tokio::signal::ctrl_c() => {
            interrupted?;
            Err(Error::Interrupted)
        }
    }
}

async fn one(context: &Context, id: &str, condition: Conditions, quiet: bool) -> Result<()> {
    let mut pause = FIRST_PAUSE;
    let mut away = Away::default();
    loop {
        match get::<TaskStatus>(&context.client, id).await {
            Ok(kept) => {
                away.is_back();
                match reached(condition, kept.item.status) {
                    Some(true) => {
                        if !quiet {
                            say(&sentence(&kept.item));
                        }
                        return Ok(());
                    }
                    Some(false) => return Err(Error::Several(sentence(&kept.item))),
                    None => {}
                }
            }
            Err(Error::NotFound(_)) => return Err(Error::NotFound(format!("task {id} was stopped").into())),
            Err(error) => away.ride_out(error)?,
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Whether the condition is met; `None` while it still can be.
fn reached(condition: Conditions, state: TaskState) -> Option<bool> {
    match (condition, state) {
        (Conditions::Done | Conditions::Running, TaskState::Completed | TaskState::Failed) => Some(true),
        (Conditions::Running, TaskState::Running) => Some(true),
        (Conditions::Completed, TaskState::Completed) | (Conditions::Failed, TaskState::Failed) => Some(true),
        (Conditions::Completed, TaskState::Failed) | (Conditions::Failed, TaskState::Completed) => Some(false),
        (_, TaskState::Pending)
        | (Conditions::Done | Conditions::Completed | Conditions::Failed, TaskState::Running) => None,
    }
}

#[cfg(test)]
mod tests {
    use task::TaskState;

    use super::reached;
    use crate::args::Conditions;

    #[test]
    fn what_can_no_longer_become_true_is_not_waited_for() {
        assert_eq!(reached(Conditions::Completed, TaskState::Failed), Some(false));
        assert_eq!(reached(Conditions::Failed, TaskState::Completed), Some(false));
        assert_eq!(reached(Conditions::Running, TaskState::Completed), Some(true));
        assert_eq!(reached(Conditions::Done, TaskState::Running), None);
        assert_eq!(reached(Conditions::Running, TaskState::Pending), None);
    }
}
