//! `k8s-cli jobs wait`.

use std::time::Duration;

use futures::future::try_join_all;
use task::TaskState;
use task::wire::TaskStatus;
use tokio::time::{sleep, timeout};

use super::outcome::summary;
use crate::args::{WaitArgs, WaitCondition};
use crate::client::Outage;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::output::print_message;
use crate::resources::{Ambiguity, find_tasks, get};

/// Polling interval: starts short, so that short tasks are reported soon, and doubles up to the maximum, so that
/// waiting for hours is cheap.
const MIN_INTERVAL: Duration = Duration::from_millis(50);
const MAX_INTERVAL: Duration = Duration::from_secs(1);

/// Runs the command.
///
/// # Errors
/// [`Error::Incomplete`] if a task can no longer reach the state, [`Error::TimedOut`] on timeout.
pub(crate) async fn run(context: &Context, args: WaitArgs) -> Result<()> {
    let all = async {
        let tasks = find_tasks(&context.client, &args.tasks, Ambiguity::TakesNewest).await?;
        let ids = tasks.iter().map(|task| &task.item.task_id);
        try_join_all(ids.map(|id| wait_for_task(context, id, args.condition, args.quiet))).await
    };
    tokio::select! {
        result = async {
            match args.timeout {
                Some(limit) => timeout(limit, all).await.unwrap_or_else(|_| Err(Error::TimedOut(format!("timed out waiting for the condition after {limit:?}")))),
                None => all.await,
            }
        } => result.map(drop),
        interrupted = tokio::signal::ctrl_c() => {
            interrupted?;
            Err(Error::Interrupted)
        }
    }
}

async fn wait_for_task(context: &Context, id: &str, condition: WaitCondition, quiet: bool) -> Result<()> {
    let mut interval = MIN_INTERVAL;
    let mut outage = Outage::default();
    loop {
        match get::<TaskStatus>(&context.client, id).await {
            Ok(task) => {
                outage.end();
                match evaluate(condition, task.item.status) {
                    Evaluation::Met => {
                        if !quiet {
                            print_message(&summary(&task.item));
                        }
                        return Ok(());
                    }
                    Evaluation::Unreachable => return Err(Error::Incomplete(summary(&task.item))),
                    Evaluation::Pending => {}
                }
            }
            Err(Error::NotFound(_)) => return Err(Error::NotFound(format!("task {id} was stopped").into())),
            Err(error) => outage.retry_or_fail(error)?,
        }
        sleep(interval).await;
        interval = (interval * 2).min(MAX_INTERVAL);
    }
}

/// Whether a task meets a condition.
#[derive(Debug, PartialEq, Eq)]
enum Evaluation {
    Met,
    /// The task can still meet it.
    Pending,
    /// The task can no longer meet it.
    Unreachable,
}

fn evaluate(condition: WaitCondition, state: TaskState) -> Evaluation {
    match (condition, state) {
        (WaitCondition::Done | WaitCondition::Running, TaskState::Completed | TaskState::Failed) => Evaluation::Met,
        (WaitCondition::Running, TaskState::Running) => Evaluation::Met,
        (WaitCondition::Completed, TaskState::Completed) | (WaitCondition::Failed, TaskState::Failed) => {
            Evaluation::Met
        }
        (WaitCondition::Completed, TaskState::Failed) | (WaitCondition::Failed, TaskState::Completed) => {
            Evaluation::Unreachable
        }
        (_, TaskState::Pending)
        | (WaitCondition::Done | WaitCondition::Completed | WaitCondition::Failed, TaskState::Running) => {
            Evaluation::Pending
        }
    }
}

#[cfg(test)]
mod tests {
    use task::TaskState;

    use super::{Evaluation, evaluate};
    use crate::args::WaitCondition;

    #[test]
    fn what_can_no_longer_become_true_is_not_waited_for() {
        assert_eq!(
            evaluate(WaitCondition::Completed, TaskState::Failed),
            Evaluation::Unreachable
        );
        assert_eq!(
            evaluate(WaitCondition::Failed, TaskState::Completed),
            Evaluation::Unreachable
        );
        assert_eq!(evaluate(WaitCondition::Running, TaskState::Completed), Evaluation::Met);
        assert_eq!(evaluate(WaitCondition::Done, TaskState::Running), Evaluation::Pending);
        assert_eq!(
            evaluate(WaitCondition::Running, TaskState::Pending),
            Evaluation::Pending
        );
    }
}
