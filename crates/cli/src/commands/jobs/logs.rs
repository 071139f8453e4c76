//! `k8s-cli jobs logs`.

use jiff::{Span, SpanRelativeTo, Timestamp};
use task::wire::TaskStatus;

use super::outcome::{Ending, follow_to_the_end};
use crate::args::Logs;
use crate::context::Context;
use crate::error::Result;
use crate::logs::{LogOptions, print_now};
use crate::things::find;

pub async fn run(context: &Context, args: Logs) -> Result<()> {
    let task = find::<TaskStatus>(&context.client, &args.task).await?.item;
    let options = LogOptions {
        tail: args.tail,
        since: args.since.map(absolute),
        timestamps: args.timestamps,
        node: args.node,
    };
    if args.no_follow {
        print_now(&context.client, &task, &options, context.terminal).await
    } else {
        let ending = if args.exit_code {
            Ending::TheTasks
        } else {
            Ending::OfTheFollowing
        };
        follow_to_the_end(context, &task, &options, ending).await
    }
}

/// Converts a relative `--since` to a timestamp, so that it does not move when the log is requested again after a
/// broken connection. Leaves anything else unchanged; the server validates it.
fn absolute(since: String) -> String {
    let ago = since
        .parse::<Span>()
        .and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()));
    match ago.and_then(|ago| Timestamp::now().checked_sub(ago)) {
        Ok(time) => time.to_string(),
        Err(_) => since,
    }
}
