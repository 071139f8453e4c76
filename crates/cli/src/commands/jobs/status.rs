//! `k8s-cli jobs status`.

use task::wire::TaskStatus;

use crate::args::{Format, Status};
use crate::context::Context;
use crate::error::Result;
use crate::output::{describe_task, print, print_items, print_one};
use crate::things::find_all;

pub async fn run(context: &Context, args: Status) -> Result<()> {
    let tasks = find_all::<TaskStatus>(&context.client, &args.tasks, false).await?;
    match (args.output.format, tasks.as_slice()) {
        (Format::Table | Format::Wide, _) => {
            let wide = args.output.format == Format::Wide;
            let texts: Vec<String> = tasks
                .iter()
                .map(|kept| describe_task(&kept.item, wide, context.terminal))
                .collect();
            print(&texts.join("\n\n"))
        }
        (Format::Json | Format::Yaml, [task]) => print_one(task, args.output.format),
        (format, tasks) => print_items(tasks, format, false, true, context.terminal),
    }
}
