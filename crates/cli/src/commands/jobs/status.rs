//! `k8s-cli jobs status`: describes tasks and groups, present or past.

use task::wire::TaskStatus;

use crate::args::{Format, StatusArgs};
use crate::context::Context;
use crate::error::Result;
use crate::output::{
    ListView, WithRaw, describe_group, describe_record, describe_task, print, print_item, print_items,
};
use crate::resources::{ReadTarget, Target, find_read_targets};

pub(crate) async fn run(context: &Context, args: StatusArgs) -> Result<()> {
    let targets = find_read_targets(&context.client, &args.tasks).await?;
    if let Format::Table | Format::Wide = args.output.format {
        let wide = args.output.format == Format::Wide;
        let describe = |target: &ReadTarget| match target {
            ReadTarget::Present(Target::Task(task)) => describe_task(&task.item, wide, context.terminal),
            ReadTarget::Present(Target::Group(group)) => {
                describe_group(&group.id, &group.tasks, wide, context.terminal)
            }
            ReadTarget::Past(record) => describe_record(record, wide, context.terminal),
        };
        let texts: Vec<String> = targets.iter().map(describe).collect();
        return print(&texts.join("\n\n"));
    }
    let is_task = matches!(
        targets.as_slice(),
        [ReadTarget::Present(Target::Task(_)) | ReadTarget::Past(_)]
    );
    let mut tasks: Vec<WithRaw<TaskStatus>> = Vec::new();
    for target in targets {
        match target {
            ReadTarget::Present(target) => tasks.extend(target.into_tasks()),
            ReadTarget::Past(record) => tasks.push(last_status(context, &record.task)?),
        }
    }
    match (args.output.format, tasks.as_slice()) {
        (Format::Json | Format::Yaml, [task]) if is_task => print_item(task, args.output.format),
        (format, tasks) => print_items(tasks, &ListView::new(format, context.terminal)),
    }
}

/// The last status of a task that is gone, as if it were still there: scripts need not tell them apart.
fn last_status(context: &Context, task: &TaskStatus) -> Result<WithRaw<TaskStatus>> {
    let raw = serde_json::value::to_raw_value(task).map_err(std::io::Error::from)?;
    WithRaw::decode(raw, &context.client.url().to_string())
}
