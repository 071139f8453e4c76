//! `k8s-cli jobs status`.

use task::wire::TaskStatus;

use crate::args::{Format, StatusArgs};
use crate::context::Context;
use crate::error::Result;
use crate::output::{ListView, WithRaw, describe_group, describe_task, print, print_item, print_items};
use crate::resources::{Ambiguity, Target, find_targets};

pub(crate) async fn run(context: &Context, args: StatusArgs) -> Result<()> {
    let targets = find_targets(&context.client, &args.tasks, false, Ambiguity::TakesNewest).await?;
    if let Format::Table | Format::Wide = args.output.format {
        let wide = args.output.format == Format::Wide;
        let describe = |target: &Target| match target {
            Target::Task(task) => describe_task(&task.item, wide, context.terminal),
            Target::Group(group) => describe_group(&group.id, &group.tasks, wide, context.terminal),
        };
        let texts: Vec<String> = targets.iter().map(describe).collect();
        return print(&texts.join("\n\n"));
    }
    let is_task = matches!(targets.as_slice(), [Target::Task(_)]);
    let tasks: Vec<WithRaw<TaskStatus>> = targets.into_iter().flat_map(Target::into_tasks).collect();
    match (args.output.format, tasks.as_slice()) {
        (Format::Json | Format::Yaml, [task]) if is_task => print_item(task, args.output.format),
        (format, tasks) => print_items(tasks, &ListView::new(format, context.terminal)),
    }
}
