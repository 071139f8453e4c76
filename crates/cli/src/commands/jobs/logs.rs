//! `k8s-cli jobs logs`.

use jiff::{Span, SpanRelativeTo, Timestamp};
use task::wire::TaskStatus;

use super::outcome::{ExitCodePolicy, follow_to_end};
use crate::args::LogsArgs;
use crate::context::Context;
use crate::error::Result;
use crate::logs::{LogOptions, print_log};
use crate::resources::{Ambiguity, find, find_last};

pub(crate) async fn run(context: &Context, args: LogsArgs) -> Result<()> {
    let task = match &args.task {
        Some(reference) => {
            find::<TaskStatus>(&context.client, reference, Ambiguity::TakesNewest)
                .await?
                .item
        }
        None => find_last::<TaskStatus>(&context.client).await?.item,
    };
    let options = LogOptions {
        tail: args.tail,
        since: args.since.map(to_absolute_time),
        timestamps: args.timestamps,
        node: args.node,
    };
    if args.no_follow {
        print_log(&context.client, &task, &options, context.terminal).await
    } else {
        let policy = if args.exit_code {
            ExitCodePolicy::TaskCode
        } else {
            ExitCodePolicy::IgnoreOutcome
        };
        follow_to_end(context, &task, &options, policy).await
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
