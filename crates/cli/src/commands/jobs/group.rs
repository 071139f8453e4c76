//! Commands on the tasks of a group.

use task::wire::{GroupExecution, TaskStatus};

use super::outcome::{ExitCodePolicy, STOPPED_EXIT_CODE, follow, report_end};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::logs::{LogOptions, print_log};
use crate::output::{WithRaw, plural, print_message};

/// Prints the logs of all tasks, one after the other, each line with the name of its task, and follows them to their end.
///
/// # Errors
/// [`Error::TaskFailed`] with the exit code of the first task that did not succeed, if `policy` asks for that.
pub(super) async fn follow_group(
    context: &Context,
    tasks: &[WithRaw<TaskStatus>],
    options: &LogOptions,
    policy: ExitCodePolicy,
) -> Result<()> {
    let mut failed = None;
    for (index, task) in tasks.iter().map(|task| &task.item).enumerate() {
        let Some(group) = &task.metadata.group else { continue };
        let end = follow(context, task, &of_task(options, task), ("group", &group.group_id)).await?;
        match report_end(&end, &task.task_id, options.node, policy) {
            Ok(()) => {}
            Err(Error::TaskFailed(code)) => {
                failed.get_or_insert(code);
                let left = tasks.len() - index - 1;
                if group.execution == GroupExecution::Serial && left > 0 {
                    print_message(&format!("{} after it will not run", plural(left, "task")));
                    break;
                }
            }
            Err(error) => return Err(error),
        }
    }
    let size = tasks
        .first()
        .and_then(|task| Some(task.item.metadata.group.as_ref()?.size));
    let missing = size.map_or(0, |size| (size as usize).saturating_sub(tasks.len()));
    if missing > 0 {
        print_message(&format!(
            "{} of the group {} stopped",
            plural(missing, "task"),
            if missing == 1 { "was" } else { "were" }
        ));
        if policy != ExitCodePolicy::IgnoreOutcome {
            failed.get_or_insert(STOPPED_EXIT_CODE);
        }
    }
    failed.map_or(Ok(()), |code| Err(Error::TaskFailed(code)))
}

/// Prints the logs of all tasks so far, one after the other.
pub(super) async fn print_group(context: &Context, tasks: &[WithRaw<TaskStatus>], options: &LogOptions) -> Result<()> {
    for task in tasks.iter().map(|task| &task.item) {
        print_log(&context.client, task, &of_task(options, task), context.terminal).await?;
    }
    Ok(())
}

fn of_task(options: &LogOptions, task: &TaskStatus) -> LogOptions {
    LogOptions {
        prefix: Some(task.name.clone()),
        ..options.clone()
    }
}
