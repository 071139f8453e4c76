//! The outcome of a task as a message and as an exit code.

use std::io::IsTerminal;

use jiff::Timestamp;
use task::TaskState;
use task::wire::{NodeStatus, TaskStatus};

use crate::context::Context;
use crate::error::{Error, Result};
use crate::logs::{LogEnd, LogOptions, follow_log};
use crate::output::{human_duration, print_message, raw_stdout};

/// Exit codes for a task that failed and for one that was canceled or stopped, as in `sky`.
const FAILED_EXIT_CODE: u8 = 100;
pub(super) const STOPPED_EXIT_CODE: u8 = 103;

/// The reason of a node that was ended because another one had failed.
const NODE_FAILED: &str = "NodeFailed";

/// The reason of a task that its user canceled.
const CANCELLED: &str = "Cancelled";

/// What the exit code of a command that follows a task reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExitCodePolicy {
    /// Only whether the log was read to its end, regardless of the outcome of the task.
    IgnoreOutcome,
    /// Whether the task succeeded.
    FailureCode,
    /// The task's own exit code.
    TaskCode,
}

/// Follows a log to its end or until Ctrl-C, and reports how the task ended.
///
/// # Errors
/// [`Error::TaskFailed`] if the task did not succeed and `policy` asks for that in the exit code.
pub(crate) async fn follow_to_end(
    context: &Context,
    task: &TaskStatus,
    options: &LogOptions,
    policy: ExitCodePolicy,
) -> Result<()> {
    let end = follow(context, task, options, ("task", &task.task_id)).await?;
    report_end(&end, &task.task_id, options.node, policy)
}

/// Follows a log to its end or until Ctrl-C, which then says how to go on with `kind` `id`.
pub(super) async fn follow(
    context: &Context,
    task: &TaskStatus,
    options: &LogOptions,
    (kind, id): (&str, &str),
) -> Result<LogEnd> {
    let stdout = Box::new(raw_stdout()?);
    tokio::select! {
        end = follow_log(&context.client, task, options, context.terminal, stdout) => end,
        interrupted = tokio::signal::ctrl_c() => {
            interrupted?;
            if std::io::stderr().is_terminal() {
                // End the line on which the terminal shows `^C`.
                print_message("");
            }
            print_message(&format!("{kind} {id} is still running; follow it with `k8s-cli jobs logs {id}`, or cancel it with `k8s-cli jobs cancel {id}`"));
            Err(Error::Interrupted)
        }
    }
}

/// Reports how a task ended.
///
/// # Errors
/// [`Error::TaskFailed`] if the task did not succeed and `policy` asks for that in the exit code.
pub(super) fn report_end(end: &LogEnd, id: &str, node: Option<u32>, policy: ExitCodePolicy) -> Result<()> {
    match end {
        LogEnd::Finished(task) => {
            print_message(&summary(task));
            match (policy, exit_code(task, node)) {
                (ExitCodePolicy::IgnoreOutcome, _) | (_, 0) => Ok(()),
                (ExitCodePolicy::FailureCode, _) if is_cancelled(task) => Err(Error::TaskFailed(STOPPED_EXIT_CODE)),
                (ExitCodePolicy::FailureCode, _) => Err(Error::TaskFailed(FAILED_EXIT_CODE)),
                (ExitCodePolicy::TaskCode, code) => Err(Error::TaskFailed(code)),
            }
        }
        LogEnd::Stopped => {
            print_message(&format!("task {id} was stopped"));
            match policy {
                ExitCodePolicy::IgnoreOutcome => Ok(()),
                ExitCodePolicy::FailureCode | ExitCodePolicy::TaskCode => Err(Error::TaskFailed(STOPPED_EXIT_CODE)),
            }
        }
    }
}

/// A one-line summary.
pub(crate) fn summary(task: &TaskStatus) -> String {
    let is_cancelled = is_cancelled(task);
    let mut text = match is_cancelled {
        true => format!("task {} canceled", task.task_id),
        false => format!("task {} {}", task.task_id, task.status),
    };
    if let Some(duration) = task_duration(task) {
        text.push_str(&format!(" after {duration}"));
    }
    if task.status == TaskState::Failed && !is_cancelled {
        let details = [&task.reason, &task.message];
        for part in details.into_iter().flatten() {
            text.push_str(&format!(": {part}"));
        }
    }
    text
}

fn is_cancelled(task: &TaskStatus) -> bool {
    task.reason.as_deref() == Some(CANCELLED)
}

/// The run time of a finished task: from the first start of a node in any attempt to the last end.
pub(crate) fn task_duration(task: &TaskStatus) -> Option<String> {
    let time = |text: &Option<String>| text.as_deref()?.parse::<Timestamp>().ok();
    let attempts = task.metadata.attempts.iter().map(|attempt| time(&attempt.started_at));
    let nodes = task.metadata.nodes.iter();
    let starts = nodes.clone().map(|node| time(&node.started_at)).chain(attempts);
    let end = nodes.filter_map(|node| time(&node.finished_at)).max()?;
    let is_finished = task.status.is_final();
    is_finished.then_some(human_duration(end.duration_since(starts.flatten().min()?)))
}

/// The exit code of a task or, with `node`, of that node: 0 on success, otherwise the exit code of the node that failed
/// first, or 1 if it has none. Nodes with the reason [`NODE_FAILED`] count last.
fn exit_code(task: &TaskStatus, node: Option<u32>) -> u8 {
    let is_selected = |candidate: &&NodeStatus| node.is_none_or(|rank| candidate.rank == rank);
    let mut nodes = task.metadata.nodes.iter().filter(is_selected);
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
    let first = failed.min_by_key(|node| (node.reason.as_deref() == Some(NODE_FAILED), node.finished_at.clone()));
    let code = first.and_then(|node| u8::try_from(node.exit_code?).ok());
    code.filter(|code| *code != 0).unwrap_or(1)
}
