//! `k8s-cli jobs logs`.

use jiff::{Span, SpanRelativeTo, Timestamp};
use task::wire::TaskStatus;

use super::group::{follow_group, print_group};
use super::outcome::{ExitCodePolicy, follow_to_end};
use crate::args::LogsArgs;
use crate::context::Context;
use crate::error::Result;
use crate::logs::{LogOptions, print_log};
use crate::resources::{Ambiguity, Target, find_last, find_target};

pub(crate) async fn run(context: &Context, args: LogsArgs) -> Result<()> {
    let target = match &args.task {
        Some(reference) => find_target(&context.client, reference, Ambiguity::TakesNewest).await?,
        None => Target::Task(Box::new(find_last::<TaskStatus>(&context.client).await?)),
    };
    let options = LogOptions {
        tail: args.tail,
        since: args.since.map(to_absolute_time),
        timestamps: args.timestamps,
        node: args.node,
        prefix: None,
    };
    let policy = if args.exit_code {
        ExitCodePolicy::TaskCode
    } else {
        ExitCodePolicy::IgnoreOutcome
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
