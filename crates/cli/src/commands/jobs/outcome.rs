//! How a task ended, as a sentence and as an exit code.

use std::io::IsTerminal;

use jiff::Timestamp;
use task::State;
use task::status::{NodeStatus, TaskStatus};

use crate::context::Context;
use crate::error::{Error, Result};
use crate::logs::{End, LogOptions, follow};
use crate::output::{age_of, say};

/// The exit code of a task that failed, as `sky` has it, and of one that was stopped.
const FAILED: u8 = 100;
const STOPPED: u8 = 103;

/// What the exit code of a command says that follows a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Whether the log was followed to its end, however the task ended.
    OfTheFollowing,
    /// Whether the task succeeded.
    Failure,
    /// The task's own exit code.
    TheTasks,
}

/// Follows a log to its end, or until Ctrl-C, and says how the task ended.
///
/// # Errors
/// The following fails; or the task did, where `ending` says so.
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
                // Behind the `^C` that the terminal shows.
                say("");
            }
            say(&format!("task {id} runs on; `k8s-cli jobs logs {id}` follows it again, `k8s-cli jobs stop {id}` stops it"));
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

/// One line for a person.
pub fn sentence(task: &TaskStatus) -> String {
    let mut text = format!("task {} {}", task.task_id, task.status);
    if let Some(took) = took(task) {
        text.push_str(&format!(" after {took}"));
    }
    if task.status == State::Failed {
        let why = [&task.reason, &task.message];
        for part in why.into_iter().flatten() {
            text.push_str(&format!(": {part}"));
        }
    }
    text
}

/// The time from the first start of a node, in whatever attempt, to the last end; of a task that has ended.
pub fn took(task: &TaskStatus) -> Option<String> {
    let time = |text: &Option<String>| text.as_deref()?.parse::<Timestamp>().ok();
    let attempts = task.metadata.attempts.iter().map(|attempt| time(&attempt.started_at));
    let nodes = task.metadata.nodes.iter();
    let starts = nodes.clone().map(|node| time(&node.started_at)).chain(attempts);
    let end = nodes.filter_map(|node| time(&node.finished_at)).max()?;
    let is_over = task.status.is_final();
    is_over.then_some(age_of(end.duration_since(starts.flatten().min()?)))
}

/// 0 for success; else the exit code of the node that failed first by itself, and 1 when it has none. Who has followed one
/// node asks for that one's.
fn code(task: &TaskStatus, node: Option<u32>) -> u8 {
    let is_asked_for = |candidate: &&NodeStatus| node.is_none_or(|rank| candidate.rank == rank);
    let mut nodes = task.metadata.nodes.iter().filter(is_asked_for);
    let has_succeeded = match node {
        Some(_) => nodes.clone().all(|node| node.status == State::Completed),
        None => task.status == State::Completed,
    };
    if has_succeeded {
        return 0;
    }
    let failed = nodes
        .by_ref()
        .filter(|node| node.status == State::Failed && node.exit_code.is_some());
    let first = failed.min_by_key(|node| (node.reason.as_deref() == Some("NodeFailed"), node.finished_at.clone()));
    let code = first.and_then(|node| u8::try_from(node.exit_code?).ok());
    code.filter(|code| *code != 0).unwrap_or(1)
}
