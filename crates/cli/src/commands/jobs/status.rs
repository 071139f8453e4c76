//! `k8s-cli jobs status`.

use task::wire::TaskStatus;

use crate::args::{Format, StatusArgs};
use crate::context::Context;
use crate::error::Result;
use crate::output::{ListView, describe_task, print, print_item, print_items};
use crate::resources::{Ambiguity, find_all};

pub(crate) async fn run(context: &Context, args: StatusArgs) -> Result<()> {
    let tasks = find_all::<TaskStatus>(&context.client, &args.tasks, false, Ambiguity::TakesNewest).await?;
    match (args.output.format, tasks.as_slice()) {
        (Format::Table | Format::Wide, _) => {
            let wide = args.output.format == Format::Wide;
            let texts: Vec<String> = tasks
                .iter()
                .map(|task| describe_task(&task.item, wide, context.terminal))
                .collect();
            print(&texts.join("\n\n"))
        }
        (Format::Json | Format::Yaml, [task]) => print_item(task, args.output.format),
        (format, tasks) => print_items(tasks, &ListView::new(format, context.terminal)),
    }
}
