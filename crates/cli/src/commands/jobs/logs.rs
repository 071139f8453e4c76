//! `k8s-cli jobs logs`: prints the log of a task or group, present or past, and follows it.

use jiff::{Span, SpanRelativeTo, Timestamp};
use task::wire::TaskStatus;

use super::group::{follow_group, print_group};
use super::outcome::{ExitCodePolicy, follow_to_end, report_end};
use crate::args::LogsArgs;
use crate::context::Context;
use crate::error::Result;
use crate::logs::{LogEnd, LogOptions, print_log};
use crate::resources::{ReadTarget, Target, find_last, find_read_target};

pub(crate) async fn run(context: &Context, args: LogsArgs) -> Result<()> {
    let target = match &args.task {
        Some(reference) => find_read_target(&context.client, reference).await?,
        None => ReadTarget::Present(Target::Task(Box::new(find_last::<TaskStatus>(&context.client).await?))),
    };
    let options = LogOptions {
        tail: args.tail,
        since: args.since.map(to_absolute_time),
        timestamps: args.timestamps,
        node: args.node,
        prefix: None,
        is_past: matches!(target, ReadTarget::Past(_)),
        is_silent: false,
    };
    let policy = if args.exit_code {
        ExitCodePolicy::TaskCode
    } else {
        ExitCodePolicy::IgnoreOutcome
    };
    let target = match target {
        ReadTarget::Present(target) => target,
        ReadTarget::Past(record) => {
            let task = record.task;
            print_log(&context.client, &task, &options, context.terminal).await?;
            if args.no_follow {
                return Ok(());
            }
            let id = task.task_id.clone();
            return report_end(&LogEnd::Finished(Box::new(task)), &id, args.node, policy);
        }
    };
    match target {
        Target::Task(task) if args.no_follow => {
            print_log(&context.client, &task.item, &options, context.terminal).await
        }
        Target::Task(task) => follow_to_end(context, &task.item, &options, policy).await,
        Target::Group(group) if args.no_follow => print_group(context, &group.tasks, &options).await,
        Target::Group(group) => follow_group(context, &group.tasks, &options, policy).await,
    }
}

/// Converts a relative `--since` to a timestamp, so that it does not move when the log is requested again after a
/// broken connection. Leaves anything else unchanged; the server validates it.
fn to_absolute_time(since: String) -> String {
    let ago = since
        .parse::<Span>()
        .and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()));
    match ago.and_then(|ago| Timestamp::now().checked_sub(ago)) {
        Ok(time) => time.to_string(),
        Err(_) => since,
    }
}
