//! The outcome of a task as a message and as an exit code.

use std::io::IsTerminal;

use jiff::Timestamp;
use task::TaskState;
use task::wire::{NodeStatus, TaskStatus};

use crate::context::Context;
use crate::error::{Error, Result};
use crate::logs::{End, LogOptions, follow};
use crate::output::{age_of, say};

/// Exit codes for a task that failed and for one that was stopped. `sky` uses 100 for the former, too.
const FAILED: u8 = 100;
const STOPPED: u8 = 103;

/// What the exit code of a command that follows a task reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Only whether the log was read to its end, regardless of the outcome of the task.
    OfTheFollowing,
    /// Whether the task succeeded.
    Failure,
    /// The task's own exit code.
    TheTasks,
}

/// Follows a log to its end or until Ctrl-C, and reports how the task ended.
///
/// # Errors
/// [`Error::Ended`] if the task did not succeed and `ending` asks for that in the exit code.
pub async fn follow_to_the_end(
    context: &Context,
    task: &TaskStatus,
    options: &LogOptions,
    ending: Ending,
) -> Result<()> {
    let id = &task.task_id;
    let end = tokio::select! {
        end = follow(&context.client, task, options, context.terminal) => end?,
        interrupted = tokio::signal::ctrl_c() => {
            interrupted?;
            if std::io::stderr().is_terminal() {
                // End the line on which the terminal shows `^C`.
                say("");
            }
            say(&format!("task {id} is still running; follow it with `k8s-cli jobs logs {id}`, or stop it with `k8s-cli jobs stop {id}`"));
            return Err(Error::Interrupted);
        }
    };
    match end {
        End::Ended(task) => {
            say(&sentence(&task));
            match (ending, code(&task, options.node)) {
                (Ending::OfTheFollowing, _) | (_, 0) => Ok(()),
                (Ending::Failure, _) => Err(Error::Ended(FAILED)),
                (Ending::TheTasks, code) => Err(Error::Ended(code)),
            }
        }
        End::Stopped => {
            say(&format!("task {id} was stopped"));
            match ending {
                Ending::OfTheFollowing => Ok(()),
                Ending::Failure | Ending::TheTasks => Err(Error::Ended(STOPPED)),
            }
        }
    }
}

/// A one-line summary.
pub fn sentence(task: &TaskStatus) -> String {
    let mut text = format!("task {} {}", task.task_id, task.status);
    if let Some(took) = took(task) {
        text.push_str(&format!(" after {took}"));
    }
    if task.status == TaskState::Failed {
        let why = [&task.reason, &task.message];
        for part in why.into_iter().flatten() {
            text.push_str(&format!(": {part}"));
        }
    }
    text
}

/// The run time of a finished task: from the first start of a node in any attempt to the last end.
pub fn took(task: &TaskStatus) -> Option<String> {
    let time = |text: &Option<String>| text.as_deref()?.parse::<Timestamp>().ok();
    let attempts = task.metadata.attempts.iter().map(|attempt| time(&attempt.started_at));
    let nodes = task.metadata.nodes.iter();
    let starts = nodes.clone().map(|node| time(&node.started_at)).chain(attempts);
    let end = nodes.filter_map(|node| time(&node.finished_at)).max()?;
    let is_over = task.status.is_final();
    is_over.then_some(age_of(end.duration_since(starts.flatten().min()?)))
}

/// The exit code of a task or, with `node`, of that node: 0 on success, otherwise the exit code of the node that failed
/// first, or 1 if it has none. Nodes with the reason `NodeFailed` count last: they were ended because another node had
/// failed.
fn code(task: &TaskStatus, node: Option<u32>) -> u8 {
    let is_asked_for = |candidate: &&NodeStatus| node.is_none_or(|rank| candidate.rank == rank);
    let mut nodes = task.metadata.nodes.iter().filter(is_asked_for);
    let has_succeeded = match node {
        Some(_) => nodes.clone().all(|node| node.status == TaskState::Completed),
        None => task.status == TaskState::Completed,
    };
    if has_succeeded {
        return 0;
    }
    let failed = nodes
        .by_ref()
        .filter(|node| node.status == TaskState::Failed && node.exit_code.is_some());
    let first = failed.min_by_key(|node| (node.reason.as_deref() == Some("NodeFailed"), node.finished_at.clone()));
    let code = first.and_then(|node| u8::try_from(node.exit_code?).ok());
    code.filter(|code| *code != 0).unwrap_or(1)
}
