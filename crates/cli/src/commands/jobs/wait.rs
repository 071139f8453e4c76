//! `k8s-cli jobs wait`: waits until tasks reach a state, or can no longer reach it.

use std::collections::HashMap;

use task::TaskState;
use task::wire::TaskStatus;
use tokio::time::timeout;

use super::outcome::summary;
use crate::args::{WaitArgs, WaitCondition};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::output::print_message;
use crate::resources::{Ambiguity, TaskWatch, find_tasks};

/// Runs the command.
///
/// # Errors
/// [`Error::Incomplete`] if a task can no longer reach the state, [`Error::TimedOut`] on timeout.
pub(crate) async fn run(context: &Context, args: WaitArgs) -> Result<()> {
    let all = async {
        let tasks = find_tasks(&context.client, &args.tasks, Ambiguity::TakesNewest).await?;
        let ids = tasks.into_iter().map(|task| task.item.task_id).collect();
        wait_for_tasks(context, ids, args.condition, args.quiet).await
    };
    tokio::select! {
        result = async {
            match args.timeout {
                Some(limit) => timeout(limit, all).await.unwrap_or_else(|_| Err(Error::TimedOut(format!("timed out waiting for the condition after {limit:?}")))),
                None => all.await,
            }
        } => result,
        interrupted = tokio::signal::ctrl_c() => {
            interrupted?;
            Err(Error::Interrupted)
        }
    }
}

async fn wait_for_tasks(
    context: &Context,
    mut waiting: Vec<String>,
    condition: WaitCondition,
    quiet: bool,
) -> Result<()> {
    let mut watch = TaskWatch::new(&context.client, false);
    while !waiting.is_empty() {
        watch.next().await?;
        let tasks: HashMap<&str, &TaskStatus> = watch
            .tasks()
            .values()
            .map(|task| (task.item.task_id.as_str(), &task.item))
            .collect();
        let mut still_waiting = Vec::new();
        for id in waiting {
            let Some(task) = tasks.get(id.as_str()) else {
                return Err(Error::NotFound(format!("task {id} was stopped").into()));
            };
            match evaluate(condition, task.status) {
                Evaluation::Met if quiet => {}
                Evaluation::Met => print_message(&summary(task)),
                Evaluation::Unreachable => return Err(Error::Incomplete(summary(task))),
                Evaluation::Pending => still_waiting.push(id),
            }
        }
        waiting = still_waiting;
    }
    Ok(())
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
